;; Calls itself without end.
(module (;common;)
  (func $deeper (param $depth i32) (result i32)
    (i32.add (i32.const 1) (call $deeper (i32.add (local.get $depth) (i32.const 1)))))
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (call $deeper (i32.const 0))))
