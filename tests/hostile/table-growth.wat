;; Makes a table larger until it may not.
(module (;common;)
  (table $table 1 funcref)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
    unreachable))
