//! A run saves what it trained and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{AdamWConfig, ModuleOptimizer, OptimizerRecord};
use burn::store::{ModuleRecord, ModuleSnapshot, ModuleStore, SafetensorsStore};
use burn::tensor::{Device, Tensor};
use llm_fusion::{Blocks, LoraConfig, TuningStrategy, UserLlm, trained_parameters};

use crate::tiny::{Moved, Tiny, bits, histories, step, tokens};

const STRATEGIES: [TuningStrategy; 4] = [
    TuningStrategy::Full,
    TuningStrategy::Lora,
    TuningStrategy::Enc,
    TuningStrategy::Proj,
];

#[test]
fn what_trained_comes_back_through_a_burnpack_record_with_its_ids() {
    for strategy in STRATEGIES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trained.bpk");
        let trained = trained(strategy);
        save_record(&trained, &file);

        let record = ModuleRecord::load(&file).unwrap();
        assert_eq!(record.len(), trained_parameters(&trained).len());
        let loaded = base(strategy).load_record(record.allow_partial(true));

        assert_eq!(answer(&loaded), answer(&trained), "{strategy:?}");
        assert_eq!(ids(&loaded), ids(&trained), "{strategy:?}");
        assert_eq!(trained_parameters(&loaded), trained_parameters(&trained));
    }
}

#[test]
fn what_trained_comes_back_through_safetensors() {
    for strategy in STRATEGIES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trained.safetensors");
        let trained = trained(strategy);
        save_safetensors(&trained, &file);

        let mut loaded = base(strategy);
        let mut store = SafetensorsStore::from_file(&file).allow_partial(true);
        let result = loaded.load_from(&mut store).unwrap();
        assert_eq!(result.applied.len(), trained_parameters(&trained).len());
        assert!(
            result.unused.is_empty() && result.errors.is_empty(),
            "{result:?}"
        );

        assert_eq!(answer(&loaded), answer(&trained), "{strategy:?}");
        assert_eq!(trained_parameters(&loaded), trained_parameters(&trained));
    }
}

/// Safetensors have no place for ids, so a run that is to be resumed keeps them beside.
#[test]
fn ids_that_were_kept_beside_safetensors_can_be_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trained.safetensors");
    let trained = trained(TuningStrategy::Lora);
    save_safetensors(&trained, &file);
    let kept = ids(&trained);

    let mut store = SafetensorsStore::from_file(&file);
    let mut tensors: Vec<_> = store.get_all_tensors().unwrap().values().cloned().collect();
    for tensor in &mut tensors {
        tensor.param_id = Some(kept[&tensor.name]);
    }
    let mut loaded = base(TuningStrategy::Lora);
    let result = loaded.apply(tensors, None, None, false);
    assert!(
        result.unused.is_empty() && result.errors.is_empty(),
        "{result:?}"
    );

    assert_eq!(answer(&loaded), answer(&trained));
    assert_eq!(ids(&loaded), kept);
}

#[test]
fn a_resumed_training_ends_with_the_same_bits() {
    for strategy in STRATEGIES {
        let folder = tempfile::tempdir().unwrap();
        let (weights, moments) = (folder.path().join("a.bpk"), folder.path().join("b.bpk"));
        let optimizer = || -> ModuleOptimizer { AdamWConfig::new().init() };

        let (mut model, mut optimizer_state) = (base(strategy), optimizer());
        for _ in 0..2 {
            model = step(model, &mut optimizer_state);
        }
        save_record(&model, &weights);
        optimizer_state.to_record().save(&moments).unwrap();
        for _ in 0..2 {
            model = step(model, &mut optimizer_state);
        }

        let record = ModuleRecord::load(&weights).unwrap().allow_partial(true);
        let mut resumed = base(strategy).load_record(record);
        let record = OptimizerRecord::load(&moments).unwrap();
        let mut optimizer_state = optimizer().load_record(record);
        for _ in 0..2 {
            resumed = step(resumed, &mut optimizer_state);
        }
        assert_eq!(answer(&resumed), answer(&model), "{strategy:?}");
    }
}

fn save_record(model: &UserLlm, file: &Path) {
    let group = ParamGroup::from_paths(paths(model));
    model.clone().into_record_group(group).save(file).unwrap();
}

fn save_safetensors(model: &UserLlm, file: &Path) {
    let mut store = SafetensorsStore::from_file(file).with_full_paths(paths(model));
    model.save_into(&mut store).unwrap();
}

fn paths(model: &UserLlm) -> Vec<String> {
    trained_parameters(model)
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

/// The base model, the same each time but for its ids, with a strategy applied.
fn base(strategy: TuningStrategy) -> UserLlm {
    let model = Tiny::cross_attention(Blocks::Upper(2)).closed(&Device::flex().autodiff());
    strategy.apply(model, &Blocks::All, &LoraConfig::new().with_rank(2))
}

/// The same after a training that moved all that may move.
fn trained(strategy: TuningStrategy) -> UserLlm {
    base(strategy).map(&mut Moved)
}

fn answer(model: &UserLlm) -> Vec<u32> {
    let model = model.valid();
    let device = model.device();
    let user = model.read_user(&histories(&[&[2, 3, 4]], 3, &device));
    bits(model.forward(tokens(&[&[1, 2, 3]], &device), None, Some(&user)))
}

/// Ids of the parameters that train, by path.
fn ids(model: &UserLlm) -> BTreeMap<String, u64> {
    #[derive(Default)]
    struct Ids {
        path: Vec<String>,
        found: BTreeMap<String, u64>,
    }
    impl ModuleVisitor for Ids {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.found.insert(self.path.join("."), param.id.val());
            }
        }
    }
    let mut ids = Ids::default();
    model.visit(&mut ids);
    ids.found
}
