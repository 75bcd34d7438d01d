;; Computes for ever.
(module (;common;)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (loop $again (br $again))
    unreachable))
