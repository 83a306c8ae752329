;; Looks for a nonce: SHA-256 of the challenge (8 words) and the nonce (2 words), four nonces at a time,
;; one compression each. build.rs writes the rounds out in place of the lines that start with `;; @`.
;;
;; Nonces are tried in groups of four that follow each other: $lo, $lo + 1, $lo + 2, $lo + 3, …
;; Gives the number of the first group in which some hash's first word is not above $most, or -1.
;; The caller knows all of $most's rest and looks at the four again.
(module
  (func (export "search")
    (param $w0 i32) (param $w1 i32) (param $w2 i32) (param $w3 i32)
    (param $w4 i32) (param $w5 i32) (param $w6 i32) (param $w7 i32)
    (param $w8 i32) (param $lo i32) (param $groups i32) (param $most i32)
    (result i32)
    (local $group i32)
    (local $limit v128)
    (local $s9 v128)
    ;; @locals
    (local.set $limit (i32x4.splat (local.get $most)))
    ;; @once
    (loop $next
      (local.set $s9 (i32x4.add (i32x4.splat (local.get $lo)) (v128.const i32x4 0 1 2 3)))
      ;; @each
      (if (v128.any_true (i32x4.le_u (local.get $first) (local.get $limit)))
        (then (return (local.get $group))))
      (local.set $lo (i32.add (local.get $lo) (i32.const 4)))
      (local.set $group (i32.add (local.get $group) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $group) (local.get $groups))))
    (i32.const -1)))
