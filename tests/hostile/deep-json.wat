;; Returns a list in a list in a list, a hundred thousand deep.
(module (;common;)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (local $at i32)
    (local.set $at (call $allocate (i32.const 200000)))
    (memory.fill (local.get $at) (i32.const 0x5b) (i32.const 100000))
    (memory.fill (i32.add (local.get $at) (i32.const 100000)) (i32.const 0x5d) (i32.const 100000))
    (call $ok (local.get $at) (i32.const 200000))))
