package fishway_http

import (
	"context"
	goruntime "runtime"
	"slices"
	"unsafe"

	"MODULE/bindings/wasi_clocks_monotonic_clock"
	"MODULE/bindings/wasi_io_poll"
	"go.bytecodealliance.org/pkg/wit/runtime"
)

// How often other goroutines may run before a wait blocks all of them.
const yields = 32

// A goroutine that waits for the host.
type waiter struct {
	ctx context.Context
	// The handle that it waits for, and the deadline of its context, if there is one.
	handles []*wasi_io_poll.Pollable
	done    bool
	timeout bool
	// Wakes it: its handle is ready, or it has to wait for all.
	wake chan struct{}
}

// All waiting goroutines. A wait blocks every goroutine, so one of them waits for all handles together: that allows
// several concurrent requests.
var (
	waiting []*waiter
	polling bool
)

// Wait until a handle is ready, or the context is done.
func wait(ctx context.Context, ready *wasi_io_poll.Pollable) error {
	self := &waiter{ctx: ctx, handles: []*wasi_io_poll.Pollable{ready}, wake: make(chan struct{}, 1)}
	// Go's own timers would never fire: its clock stands still until the host has waited.
	if left, has := remaining(ctx); has {
		timer := wasi_clocks_monotonic_clock.SubscribeDuration(uint64(max(left, 0)))
		defer timer.Drop()
		self.handles = append(self.handles, timer)
	}
	waiting = append(waiting, self)
	for !self.over() {
		if polling {
			select {
			case <-self.wake:
			case <-ctx.Done():
			}
			continue
		}
		polling = true
		for !self.over() {
			poll(self)
		}
		polling = false
	}
	waiting = slices.DeleteFunc(waiting, func(other *waiter) bool { return other == self })
	if !polling && len(waiting) > 0 {
		waiting[0].tell()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if self.timeout {
		return context.DeadlineExceeded
	}
	return nil
}

func (self *waiter) over() bool {
	return self.done || self.ctx.Err() != nil
}

func (self *waiter) tell() {
	select {
	case self.wake <- struct{}{}:
	default:
	}
}

// Wait once for all handles together.
func poll(self *waiter) {
	for range yields {
		goruntime.Gosched()
	}
	if self.over() {
		return
	}
	var handles []*wasi_io_poll.Pollable
	var owners []*waiter
	for _, one := range waiting {
		if one.done {
			continue
		}
		for _, handle := range one.handles {
			handles = append(handles, handle)
			owners = append(owners, one)
		}
	}
	ready := wasi_io_poll.Poll(handles)
	for _, index := range ready {
		owner := owners[index]
		if handles[index] == owner.handles[0] {
			owner.timeout = false
		} else if !owner.done {
			owner.timeout = true
		}
		owner.done = true
		owner.tell()
	}
	runtime.GiveBack(unsafe.Pointer(unsafe.SliceData(ready)), uintptr(len(ready))*4)
}
