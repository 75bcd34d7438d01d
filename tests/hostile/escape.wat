;; Tries to leave the directory that it was granted, which is the first one. Says of each way whether
;; it was barred (1) or open (0), and fails with that.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (;common;)
  (data (i32.const 2048) "../secret.txt")            ;; 13
  (data (i32.const 2064) "link.txt")                 ;; 8, made by the host: to ../secret.txt
  (data (i32.const 2080) "made.txt")                 ;; 8, made here
  (data (i32.const 2096) "/etc/passwd")              ;; 11
  (data (i32.const 2112) "sub/../../secret.txt")     ;; 20
  (data (i32.const 2144) "note.txt")                 ;; 8, is there
  (data (i32.const 2160) "../moved.txt")             ;; 12
  (data (i32.const 2176) "up/secret.txt")            ;; 13, `up` is a link of the host's to ..
  (global $said (mut i32) (i32.const 3072))
  (func $say (param $error i32)
    (i32.store8 (global.get $said) (select (i32.const 0x31) (i32.const 0x30) (local.get $error)))
    (global.set $said (i32.add (global.get $said) (i32.const 1))))
  (func $open (param $directory i32) (param $path i32) (param $length i32)
    (call $say (call $path_open (local.get $directory) (i32.const 1) (local.get $path) (local.get $length)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 1024))))
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (call $open (i32.const 3) (i32.const 2048) (i32.const 13))
    (call $open (i32.const 3) (i32.const 2064) (i32.const 8))
    (call $open (i32.const 3) (i32.const 2096) (i32.const 11))
    (call $open (i32.const 3) (i32.const 2112) (i32.const 20))
    (call $open (i32.const 3) (i32.const 2176) (i32.const 13))
    (call $open (i32.const 4) (i32.const 2144) (i32.const 8))
    ;; A link of its own making, relative and absolute: made or not, it leads nowhere.
    (drop (call $symlink (i32.const 2048) (i32.const 13) (i32.const 3) (i32.const 2080) (i32.const 8)))
    (call $open (i32.const 3) (i32.const 2080) (i32.const 8))
    (call $say (call $symlink (i32.const 2096) (i32.const 11) (i32.const 3) (i32.const 2088) (i32.const 3)))
    (call $say (call $link (i32.const 3) (i32.const 0) (i32.const 2048) (i32.const 13)
      (i32.const 3) (i32.const 2080) (i32.const 4)))
    (call $say (call $rename (i32.const 3) (i32.const 2144) (i32.const 8)
      (i32.const 3) (i32.const 2160) (i32.const 12)))
    (call $fail (i32.const 3072) (i32.sub (global.get $said) (i32.const 3072)))))
