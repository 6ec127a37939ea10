use burn::module::Module;
use burn::tensor::*;
use llm::{generate::*, load::load};
use std::{ops::ControlFlow, path::Path, time::Instant};
fn rss() -> String {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS"))
        .map(|s| s.to_string() + " ")
        .collect()
}
fn main() {
    let device = Device::flex();
    let t = Instant::now();
    let home = std::env::var("HOME").unwrap();
    let m = load(
        Path::new(&format!(
            "{home}/.cache/user-llm/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
        )),
        &device,
    )
    .unwrap();
    println!("load {:?} {}", t.elapsed(), rss());
    println!("params {}", m.model.num_params());
    for n in [32usize, 128, 512] {
        let ids = Tensor::<2, Int>::from_data(
            TensorData::new(
                (0..n).map(|i| (i * 37 % 40000) as i64).collect::<Vec<_>>(),
                [1, n],
            ),
            &device,
        );
        let mut best: Vec<f64> = vec![];
        for _ in 0..6 {
            let t = Instant::now();
            let mut c = m.model.new_cache();
            let plan = m.model.plan_causal(1, n, 0, None);
            let h = m.model.forward_cached(ids.clone(), &plan, &mut c);
            let l = m.model.logits(h.slice([0..1, n - 1..n]));
            let _ = l.into_data();
            best.push(t.elapsed().as_secs_f64() * 1e3);
        }
        best.sort_by(f64::total_cmp);
        println!("prefill {n}: min {:.1} median {:.1} ms", best[0], best[3]);
    }
    for prompt in [16usize, 128, 512] {
        let mut d = m.model.decoder();
        let p: Vec<u32> = (0..prompt as u32).map(|i| i * 37 % 40000).collect();
        d.push(&p).into_data();
        let mut ts: Vec<f64> = vec![];
        for i in 0..20 {
            let t = Instant::now();
            d.push(&[i * 7 + 3]).into_data();
            ts.push(t.elapsed().as_secs_f64() * 1e3);
        }
        ts.sort_by(f64::total_cmp);
        println!(
            "decode at {prompt}: min {:.1} median {:.1} ms",
            ts[0], ts[10]
        );
    }
    // training through frozen weights
    let dev = Device::flex().autodiff();
    let n = 128usize;
    let model = m.model.to_device(&dev).freeze();
    let ids = Tensor::<2, Int>::from_data(
        TensorData::new(
            (0..n).map(|i| (i * 37 % 40000) as i64).collect::<Vec<_>>(),
            [1, n],
        ),
        &dev,
    );
    for _ in 0..4 {
        let t = Instant::now();
        let x = model.embed(ids.clone()).detach().require_grad();
        let plan = model.plan_causal(1, n, 0, None);
        let mut h = x.clone();
        for b in &model.blocks {
            h = b.attend(h, &plan, None);
            h = b.feed_forward(h);
        }
        let s = h.sum();
        let f = t.elapsed();
        let g = s.backward();
        let gx = x.grad(&g).unwrap();
        let _ = gx.into_data();
        println!("frozen train 128: forward {:?} total {:?}", f, t.elapsed());
    }
    let _ = generate(&mut NoDec, &[1], &GenerationConfig::new(0), |_| {
        ControlFlow::Continue(())
    });
    println!("{}", rss());
}
struct NoDec;
impl Decode for NoDec {
    fn push(&mut self, _: &[u32]) -> Tensor<1> {
        unreachable!()
    }
}
