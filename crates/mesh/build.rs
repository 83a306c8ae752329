//! Makes the browsers' miner: `client/miner.wat` with SHA-256's rounds written out, as WebAssembly.
//!
//! What does not depend on the nonce is computed once before the loop, or here.

use std::error::Error;
use std::path::PathBuf;

const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=client/miner.wat");
    println!("cargo::rerun-if-changed=build.rs");
    let rounds = rounds();
    let text = std::fs::read_to_string("client/miner.wat")?
        .replace(";; @locals", &rounds.locals)
        .replace(";; @once", &rounds.once)
        .replace(";; @each", &rounds.each);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    std::fs::write(out.join("miner.wasm"), wat::parse_str(text)?)?;
    Ok(())
}

/// How often a value has to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// Now.
    Known(u32),
    /// Before the loop.
    Once,
    /// For every group of nonces.
    Each,
}

/// Four lanes, as an expression. One that is used more than once has to be bound to a local.
#[derive(Clone, Debug)]
struct Value {
    when: When,
    text: String,
}

fn known(word: u32) -> Value {
    let text = format!("(v128.const i32x4 {word:#x} {word:#x} {word:#x} {word:#x})");
    Value { when: When::Known(word), text }
}

fn local(when: When, name: &str) -> Value {
    Value { when, text: format!("(local.get ${name})") }
}

fn both(op: &str, a: &Value, b: &Value, now: fn(u32, u32) -> u32) -> Value {
    match (a.when, b.when) {
        (When::Known(a), When::Known(b)) => known(now(a, b)),
        (one, other) => {
            let when =
                if one == When::Each || other == When::Each { When::Each } else { When::Once };
            Value { when, text: format!("({op} {} {})", a.text, b.text) }
        }
    }
}

fn xor(a: &Value, b: &Value) -> Value {
    both("v128.xor", a, b, |a, b| a ^ b)
}

fn and(a: &Value, b: &Value) -> Value {
    both("v128.and", a, b, |a, b| a & b)
}

fn add(a: &Value, b: &Value) -> Value {
    both("i32x4.add", a, b, u32::wrapping_add)
}

fn shift(op: &str, value: &Value, bits: u32, now: fn(u32, u32) -> u32) -> Value {
    match value.when {
        When::Known(word) => known(now(word, bits)),
        when => Value { when, text: format!("({op} {} (i32.const {bits}))", value.text) },
    }
}

fn right(value: &Value, bits: u32) -> Value {
    shift("i32x4.shr_u", value, bits, |word, bits| word >> bits)
}

fn rotated(value: &Value, bits: u32) -> Value {
    xor(&right(value, bits), &shift("i32x4.shl", value, 32 - bits, |word, bits| word << bits))
}

fn three(a: &Value, b: &Value, c: &Value) -> Value {
    xor(&xor(a, b), c)
}

/// The code so far.
#[derive(Default)]
struct Rounds {
    locals: String,
    once: String,
    each: String,
}

impl Rounds {
    fn bind(&mut self, name: &str, value: &Value) -> Value {
        let code = match value.when {
            When::Known(_) => return value.clone(),
            When::Once => &mut self.once,
            When::Each => &mut self.each,
        };
        *code += &format!("(local.set ${name} {})\n", value.text);
        self.locals += &format!("(local ${name} v128)\n");
        local(value.when, name)
    }

    /// Adds up what is known, to that what can be added before the loop, to that the rest.
    fn sum(&mut self, name: &str, terms: &[Value]) -> Value {
        let mut terms = terms.to_vec();
        terms.sort_by_key(|term| match term.when {
            When::Known(_) => 0,
            When::Once => 1,
            When::Each => 2,
        });
        let mut total = known(0);
        for (nth, term) in terms.iter().enumerate() {
            if term.when == When::Each && total.when == When::Once {
                total = self.bind(&format!("{name}_{nth}"), &total);
            }
            total = if total.when == When::Known(0) { term.clone() } else { add(&total, term) };
        }
        total
    }
}

fn rounds() -> Rounds {
    let mut code = Rounds::default();
    let mut schedule: Vec<Value> = Vec::new();
    for at in 0..9 {
        let splat = Value { when: When::Once, text: format!("(i32x4.splat (local.get $w{at}))") };
        schedule.push(code.bind(&format!("s{at}"), &splat));
    }
    schedule.push(local(When::Each, "s9"));
    schedule.extend([0x8000_0000, 0, 0, 0, 0, 320].map(known));
    // `a[i + 4]` and `e[i + 4]` are what round i makes.
    let mut a: Vec<Value> = [3, 2, 1, 0].map(|at| known(IV[at])).into();
    let mut e: Vec<Value> = [7, 6, 5, 4].map(|at| known(IV[at])).into();
    let mut differs = xor(&a[2], &a[1]);
    for (i, constant) in constants().into_iter().enumerate() {
        if i >= 16 {
            let (x, y) = (&schedule[i - 15], &schedule[i - 2]);
            let x = three(&rotated(x, 7), &rotated(x, 18), &right(x, 3));
            let y = three(&rotated(y, 17), &rotated(y, 19), &right(y, 10));
            let terms = [schedule[i - 16].clone(), x, schedule[i - 7].clone(), y];
            let word = code.sum(&format!("s{i}"), &terms);
            schedule.push(code.bind(&format!("s{i}"), &word));
        }
        let f = e[i + 3].clone();
        // Where a bit of f is set that of e[i + 2], elsewhere that of e[i + 1].
        let choice = xor(&and(&xor(&e[i + 2], &e[i + 1]), &f), &e[i + 1]);
        let turned = three(&rotated(&f, 6), &rotated(&f, 11), &rotated(&f, 25));
        let terms = [e[i].clone(), turned, choice, known(constant), schedule[i].clone()];
        let first = code.sum(&format!("t{i}"), &terms);
        let first = code.bind(&format!("t{i}"), &first);
        let next = code.sum(&format!("e{i}"), &[a[i].clone(), first.clone()]);
        e.push(code.bind(&format!("e{i}"), &next));
        let b = a[i + 3].clone();
        let now_differs = code.bind(&format!("d{i}"), &xor(&b, &a[i + 2]));
        let majority = xor(&and(&now_differs, &differs), &a[i + 2]);
        differs = now_differs;
        let turned = three(&rotated(&b, 2), &rotated(&b, 13), &rotated(&b, 22));
        let next = code.sum(&format!("a{i}"), &[first, turned, majority]);
        a.push(code.bind(&format!("a{i}"), &next));
    }
    let first = code.sum("first", &[a[67].clone(), known(IV[0])]);
    code.bind("first", &first);
    code
}

/// The first 32 bits behind the point of the cube roots of the first 64 primes.
fn constants() -> Vec<u32> {
    let primes = (2_u128..).filter(|n| (2..*n).all(|divisor| n % divisor != 0));
    primes.take(64).map(|prime| root(prime << 96)).collect()
}

/// The cube root, rounded down; its low 32 bits.
fn root(of: u128) -> u32 {
    let (mut low, mut high) = (0_u128, 1_u128 << 42);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if middle * middle * middle <= of { low = middle } else { high = middle }
    }
    u32::try_from(low & 0xffff_ffff).unwrap_or_default()
}
