use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use burn::{
    store::{
        FloatCastAdapter, KeyRemapper, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, bridge,
        burn_pack::{self, Error as PackError},
    },
    tensor::{DType, Device, Element, TensorData, bf16, f16},
};
use sha2::{Digest, Sha256};

use crate::{Error, LanguageModel, LanguageModelConfig};

/// A tensor of a file, read when it is needed and not before.
pub(crate) type FileTensor = burn_pack::Tensor;

/// Build the model and fill it from tensors in PyTorch's layout, one at a time: a parameter is never
/// random first, and of a file no more is in memory than the tensor at hand.
///
/// `names` are pairs of a pattern in the file's tensor names and what stands for it in ours.
pub(super) fn fill(
    path: &Path,
    config: &LanguageModelConfig,
    tensors: Vec<FileTensor>,
    names: &[(&str, &str)],
    device: &Device,
) -> Result<LanguageModel, Error> {
    // A damaged number of layers is told here, before so many blocks are made.
    if config.n_layers > tensors.len() {
        return Err(Error::BadValue {
            path: path.into(),
            key: "number of layers".into(),
            expected: format!("no more than there are tensors, {}", tensors.len()),
            found: config.n_layers.to_string(),
        });
    }

    let remapper = KeyRemapper::from_patterns(names.to_vec()).expect("our patterns are valid");
    let (tensors, renamed) = remapper.remap(tensors);
    let tensors = tensors.into_iter().map(refuse_not_finite).collect();

    let float: DType = device.settings().float_dtype.into();
    let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(float));
    let mut model = config.init(device);
    let result = model.apply(tensors, None, Some(Box::new(adapter)), false);

    let name_in_file = |ours: String| {
        let found = renamed.iter().find(|(renamed, _)| *renamed == ours);
        found.map_or(ours.clone(), |(_, original)| original.clone())
    };
    let missing: Vec<String> = result.missing.into_iter().map(|(name, _)| name).collect();
    let mut unused: Vec<String> = result.unused.into_iter().map(name_in_file).collect();
    unused.sort();
    let refused: Vec<String> = result.errors.iter().map(ToString::to_string).collect();
    if missing.is_empty() && unused.is_empty() && refused.is_empty() {
        return Ok(model);
    }
    Err(Error::Weights {
        path: path.into(),
        missing,
        unused,
        refused,
    })
}

/// The same tensor, whose reading fails if a value is NaN or infinite: one such weight makes every
/// logit NaN, far from its cause.
pub(crate) fn refuse_not_finite(tensor: FileTensor) -> FileTensor {
    let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
    bridge::deferred(name, dtype, shape, None, move || {
        let data = bridge::to_data(&tensor)?;
        match first_not_finite(&data) {
            None => Ok(data),
            Some(index) => Err(PackError::ValidationError(format!(
                "value {index} is not a finite number"
            ))),
        }
    })
}

fn first_not_finite(data: &TensorData) -> Option<usize> {
    match data.dtype() {
        DType::F32 => position(data, |value: &f32| !value.is_finite()),
        DType::F16 => position(data, |value: &f16| !value.is_finite()),
        DType::BF16 => position(data, |value: &bf16| !value.is_finite()),
        DType::F64 => position(data, |value: &f64| !value.is_finite()),
        _ => None,
    }
}

fn position<E: Element>(data: &TensorData, is_bad: impl FnMut(&E) -> bool) -> Option<usize> {
    data.as_slice::<E>().ok()?.iter().position(is_bad)
}

/// SHA-256 of some files' bytes, one after the other, in hexadecimal.
pub(crate) fn sha256(paths: &[PathBuf]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hash.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
