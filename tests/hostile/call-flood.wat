;; Asks the host the same question without end.
(module
  (import "fishway:task/context@0.1.0" "should-stop" (func $should_stop (result i32)))
  (;common;)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (loop $again
      (drop (call $should_stop))
      (br $again))
    unreachable))
