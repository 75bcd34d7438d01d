package runtime

import (
	"fmt"
	"runtime"
	"unsafe"
)

type Handle struct {
	value int32
}

func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	return h.value
}

func (h *Handle) Take() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	value := h.value
	h.value = 0
	return value
}

func (h *Handle) Set(value int32) {
	if value == 0 {
		panic("nil handle")
	}
	if h.value != 0 {
		panic("handle already set")
	}
	h.value = value
}

func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

func MakeHandle(value int32) *Handle {
	if value == 0 {
		panic("nil handle")
	}
	return &Handle{value}
}

func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	pointer := allocateRaw(size, align)
	pinner.Pin(pointer)
	return pointer
}

func allocateRaw(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}

	if size%align != 0 {
		panic(fmt.Sprintf("size %v is not compatible with alignment %v", size, align))
	}

	switch align {
	case 1:
		return unsafe.Pointer(unsafe.SliceData(make([]uint8, size)))
	case 2:
		return unsafe.Pointer(unsafe.SliceData(make([]uint16, size/align)))
	case 4:
		return unsafe.Pointer(unsafe.SliceData(make([]uint32, size/align)))
	case 8:
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, size/align)))
	default:
		panic(fmt.Sprintf("unsupported alignment: %v", align))
	}
}

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

// Data that the host passes to the guest is here, outside of Go's heap. An allocation in the heap may start a garbage
// collection or assist a running one. That reads a clock, which is a call to the host, and a guest that calls the host
// during an allocation by the host traps.
var arena struct {
	start      unsafe.Pointer
	used, size uintptr
}

// The unit to which Go's runtime rounds up each request for memory.
const arenaBytes = 64 << 10

//nolint:unused
func offset(ptr, align uintptr) uintptr {
	newptr := (ptr + align - 1) &^ (align - 1)
	return newptr - ptr
}

// Nothing here was pinned.
func Unpin() {}

// Released pieces of it, and the most that are kept: the others are freed with the instance.
var free []piece

const freeMax = 64

// As numbers, so that Go's collector does not track changes of them.
type piece struct {
	start, size uintptr
}

// GiveBack releases memory that the host has passed and that nothing references any more.
func GiveBack(start unsafe.Pointer, size uintptr) {
	if size == 0 {
		return
	}
	if unsafe.Add(start, size) == unsafe.Add(arena.start, arena.used) && uintptr(start) >= uintptr(arena.start) {
		arena.used -= size
		return
	}
	if len(free) < freeMax {
		free = append(free, piece{uintptr(start), size})
	}
}

// reused returns a released piece that is large enough. It allocates nothing.
func reused(align, size uintptr) unsafe.Pointer {
	for at := range free {
		one := &free[at]
		skip := offset(one.start, align)
		if skip+size > one.size {
			continue
		}
		start := one.start + skip
		one.start, one.size = start+size, one.size-skip-size
		if one.size == 0 {
			free[at] = free[len(free)-1]
			free = free[:len(free)-1]
		}
		return unsafe.Pointer(start)
	}
	return nil
}

// Other memory stays: Go strings point into it. It is freed with the instance, which lives for one invocation.
//
//nolint:unused
//go:wasmexport cabi_realloc
func cabiRealloc(oldPointer unsafe.Pointer, oldSize, align, newSize uintptr) unsafe.Pointer {
	if oldPointer != nil || oldSize != 0 {
		panic("todo")
	}
	if newSize == 0 {
		return nil
	}
	if start := reused(align, newSize); start != nil {
		return start
	}
	used := arena.used + offset(arena.used, align)
	if used+newSize > arena.size {
		size := (newSize + arenaBytes - 1) &^ (arenaBytes - 1)
		start := sbrk(size)
		if start == nil {
			panic("out of memory")
		}
		arena.start, arena.size, used = start, size, 0
	}
	arena.used = used + newSize
	return unsafe.Add(arena.start, used)
}
