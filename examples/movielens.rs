//! draft
#![recursion_limit = "256"]
use burn::module::Module;
use std::path::Path;
use std::time::Instant;
use trainer::{RunConfig, Prepared, Session, Terminal, pretrain, tune, Tasks, evaluate};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let skip = |w: &str| args.iter().any(|a| a == w);
    let patches: Vec<String> = args.iter().filter(|a| a.contains('=')).cloned().collect();
    let config = RunConfig::read(Path::new("configs/movielens-100k-quick.toml"), &patches)?;
    let device = burn::tensor::Device::flex();
    let t = Instant::now();
    let dataset = datasets::movielens::load(Path::new("/work/shared/data/ml-100k"))?;
    let prepared = Prepared::new(dataset, &config)?;
    println!("{}\nload {:?}", evaluate::protocol(&prepared, &config), t.elapsed());
    let mut monitor = Terminal::new(|| false);
    let cache = std::path::PathBuf::from("/tmp/enc.bpk");
    let encoder = if skip("cached") {
        prepared.new_encoder(&device).load_file(&cache)
    } else {
        let (encoder, _) = pretrain(&prepared, &config, &device, Session { stage: "pretraining", config: &config.pretraining, rates: vec![], seed: config.seed, checkpoints: None, monitor: &mut monitor, log: None })?;
        encoder.clone().save_file(&cache)?;
        encoder
    };
    println!("pretrained {:?}", t.elapsed());
    let show = |a: &evaluate::Answered| { let r = evaluate::score(&prepared, a); println!("{:40} R1 {} R5 {} R10 {} N {} G {}", r.name, r.recall_1, r.recall_5, r.recall_10, r.ndcg_10, r.genre.map(|g| g.to_string()).unwrap_or_default()); };
    show(&evaluate::popularity(&prepared, &config));
    show(&evaluate::encoder(&prepared, &config, &encoder, &device));
    if skip("stop") { return Ok(()); }
    let loaded = llm::load::load(Path::new("/tmp/dl/SmolLM2-135M-Instruct.Q4_1.gguf"), &device.clone().autodiff())?;
    println!("llm loaded {:?}", t.elapsed());
    let tasks = Tasks::new(&prepared, &config, &loaded.tokenizer)?;
    println!("prompt {} trie nodes {} open {} alphabet {}", tasks.next_item.prompt.len(), tasks.next_item.answers.trie.n_nodes(), (0..tasks.next_item.answers.trie.n_nodes()).filter(|&n| !tasks.next_item.answers.trie.node(n).is_decided()).count(), tasks.next_item.answers.trie.alphabet().len());
    if skip("text") {
        show(&evaluate::text_prompt(&prepared, &config, &loaded.model.valid(), &loaded.tokenizer, &tasks, &mut monitor)?);
        println!("text {:?}", t.elapsed());
    }
    let fused = llm_fusion::UserLlmConfig { perceiver: config.perceiver.clone(), fusion: config.fusion.clone() };
    device.seed(config.seed);
    let model = fused.init(loaded.model, encoder.train());
    let (model, outcome) = tune(model, &tasks, &prepared, &config, Session { stage: "tuning", config: &config.tuning.training, rates: vec![], seed: config.seed, checkpoints: None, monitor: &mut monitor, log: None })?;
    let share = config.tuning.genre_share;
    let (mut nx, mut ge) = (vec![], vec![]);
    for (i, l) in outcome.losses.iter().enumerate() { if ((i + 1) as f64 * share).floor() > (i as f64 * share).floor() { ge.push(*l) } else { nx.push(*l) } }
    for (n, v) in [("next", nx), ("genre", ge)] { print!("{n}: "); let k = (v.len() / 8).max(1); for c in v.chunks(k) { print!("{:.3} ", c.iter().sum::<f32>() / c.len() as f32); } println!(); }
    println!("\ngates {:?}", model.gates());
    println!("tuned {:?}", t.elapsed());
    let a = evaluate::user_llm("User-LLM", &prepared, &config, &model, &tasks, &mut monitor);
    for r in a.recommended.iter().take(4) { println!("{:?}", r.iter().map(|&i| &tasks.next_item.answers.texts[i]).collect::<Vec<_>>()); }
    let pop = evaluate::popularity(&prepared, &config);
    for r in pop.recommended.iter().take(2) { println!("POP {:?}", r.iter().map(|&i| &tasks.next_item.answers.texts[i]).collect::<Vec<_>>()); }
    show(&a);
    println!("done {:?}", t.elapsed());
    Ok(())
}
