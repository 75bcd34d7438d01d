  (memory (export "memory") 4)
  (global $next (mut i32) (i32.const 65536))
  ;; Room at the end of the memory, which grows as it has to; nothing is given back.
  (func $allocate (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next
      (i32.add (global.get $next) (i32.and (i32.add (local.get $bytes) (i32.const 15)) (i32.const -8))))
    (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
      (then
        (drop (memory.grow
          (i32.add (i32.shr_u (local.get $bytes) (i32.const 16)) (i32.const 2))))))
    (local.get $at))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (call $allocate (local.get 3)))
  ;; A result, at 16: this JSON.
  (func $ok (param $at i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (local.get $at))
    (i32.store (i32.const 24) (local.get $length))
    (i32.const 16))
  ;; A result, at 16: a failure with this message that another attempt does not help.
  (func $fail (param $at i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store (i32.const 20) (local.get $at))
    (i32.store (i32.const 24) (local.get $length))
    (i32.store8 (i32.const 28) (i32.const 0))
    (i32.store8 (i32.const 32) (i32.const 0))
    (i32.const 16))
