use burn::tensor::{activation::softmax, module::attention, *};
use std::time::Instant;
fn explicit(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, m: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let d = q.dims()[3];
    let s = (q / (d as f64).sqrt()).matmul(k.transpose());
    let s = match m {
        Some(m) => s.mask_fill(m, f32::NEG_INFINITY),
        None => s,
    };
    softmax(s, 3).matmul(v)
}
fn bias(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, m: Option<Tensor<4>>) -> Tensor<4> {
    let d = q.dims()[3];
    let s = (q / (d as f64).sqrt()).matmul(k.transpose());
    let s = match m {
        Some(m) => s + m,
        None => s,
    };
    softmax(s, 3).matmul(v)
}
fn module(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, m: Option<Tensor<4, Bool>>) -> Tensor<4> {
    attention(q, k, v, m, None, Default::default())
}
fn time(name: &str, mut f: impl FnMut()) {
    let mut t = vec![];
    for _ in 0..30 {
        let i = Instant::now();
        f();
        t.push(i.elapsed().as_secs_f64() * 1e3);
    }
    t.sort_by(f64::total_cmp);
    println!("{name}: min {:.3} median {:.3} ms", t[0], t[15]);
}
fn main() {
    let dev = Device::flex();
    for (b, new, total) in [
        (1, 1, 300),
        (1, 2, 300),
        (1, 4, 300),
        (1, 8, 300),
        (1, 16, 300),
        (1, 32, 300),
        (10, 1, 300),
        (10, 4, 300),
        (10, 8, 300),
        (10, 16, 300),
        (16, 32, 32),
    ] {
        let r = |s: [usize; 4]| Tensor::<4>::random(s, Distribution::Default, &dev);
        let (q, k, v) = (
            r([b, 3, 3 * new, 64]),
            r([b, 3, 1024.max(total), 64]).slice(s![.., .., 0..total]),
            r([b, 3, 1024.max(total), 64]).slice(s![.., .., 0..total]),
        );
        let mask = Tensor::<2, Bool>::tril_mask([new, total], (total - new) as i64, &dev)
            .unsqueeze::<4>()
            .expand([b, 1, new, total])
            .repeat_dim(2, 3);
        let mask = (new > 1 || b > 1).then_some(mask);
        let fm = mask.clone().map(|m| m.float() * -1e9);
        println!("batch {b} new {new} total {total}");
        time(" explicit", || {
            explicit(q.clone(), k.clone(), v.clone(), mask.clone()).into_data();
        });
        time(" bias", || {
            bias(q.clone(), k.clone(), v.clone(), fm.clone()).into_data();
        });
        time(" module", || {
            module(q.clone(), k.clone(), v.clone(), mask.clone()).into_data();
        });
    }
    let dev = Device::flex().autodiff();
    for (b, new) in [(8usize, 64usize), (1, 128), (4, 128)] {
        let r = |s: [usize; 4]| Tensor::<4>::random(s, Distribution::Default, &dev).require_grad();
        let (q, k, v) = (
            r([b, 3, 3 * new, 64]),
            r([b, 3, new, 64]),
            r([b, 3, new, 64]),
        );
        let mask = Tensor::<2, Bool>::tril_mask([new, new], 0, &dev)
            .unsqueeze::<4>()
            .expand([b, 1, new, new])
            .repeat_dim(2, 3);
        let fm = mask.clone().float() * -1e9;
        println!("training batch {b} new {new}");
        time(" explicit", || {
            explicit(q.clone(), k.clone(), v.clone(), Some(mask.clone()))
                .sum()
                .backward();
        });
        time(" bias", || {
            bias(q.clone(), k.clone(), v.clone(), Some(fm.clone()))
                .sum()
                .backward();
        });
        time(" module", || {
            module(q.clone(), k.clone(), v.clone(), Some(mask.clone()))
                .sum()
                .backward();
        });
    }
}
