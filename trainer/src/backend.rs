//! `--backend`: from a word on the command line to a device that is there.

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "libtorch"))]
use burn::tensor::DeviceType;

/// The words that `device` takes.
pub const BACKENDS: &str =
    "flex, ndarray, libtorch, libtorch:cuda:N, libtorch:mps, wgpu, wgpu:N, cuda, cuda:N";

/// Why there is no device for a `--backend`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not one of [`BACKENDS`].
    #[error("unknown backend '{0}'; the backends are: {BACKENDS}")]
    Unknown(String),
    /// A backend that this program was built without.
    #[error("this program was built without the {backend} backend; build it with: {build}")]
    NotBuilt {
        /// The backend.
        backend: &'static str,
        /// The command that builds it in.
        build: &'static str,
    },
    /// The backend is there, but no such device.
    #[error("{backend} finds no device {index} on this machine ({found}); {advice}")]
    NotFound {
        /// The backend.
        backend: &'static str,
        /// The index that was asked for.
        index: usize,
        /// What it does find, in words.
        found: String,
        /// What to try.
        advice: &'static str,
    },
    /// The device is listed but does not open.
    #[error("the {backend} device does not open: {cause}")]
    DoesNotOpen {
        /// The backend.
        backend: &'static str,
        /// What the driver or the runtime says.
        cause: String,
    },
}

/// The device that `spec` names, found to be there.
///
/// Call `.autodiff()` on it to train.
///
/// # Errors
///
/// If the word is unknown, the backend is not built in, or the machine has no such device.
pub fn device(spec: &str) -> Result<Device, DeviceError> {
    let mut parts = spec.split(':');
    let (backend, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    let unknown = || DeviceError::Unknown(spec.to_owned());
    let index = |text: &str| text.parse::<usize>().map_err(|_| unknown());
    match (backend, rest.as_slice()) {
        ("flex", []) => flex(),
        ("ndarray", []) => ndarray(),
        ("libtorch", []) => libtorch(),
        ("libtorch", ["cuda"]) => libtorch_cuda(0),
        ("libtorch", ["cuda", n]) => libtorch_cuda(index(n)?),
        ("libtorch", ["mps"]) => libtorch_mps(),
        ("wgpu", []) => wgpu(None),
        ("wgpu", [n]) => wgpu(Some(index(n)?)),
        ("cuda", []) => cuda(0),
        ("cuda", [n]) => cuda(index(n)?),
        _ => Err(unknown()),
    }
}

#[cfg(feature = "flex")]
fn flex() -> Result<Device, DeviceError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn flex() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt {
        backend: "flex",
        build: "cargo build --release --features flex",
    })
}

// burn 0.22 marks ndarray and LibTorch deprecated: they leave with 0.23. Nothing but these four
// functions knows of them.
#[cfg(feature = "ndarray")]
#[allow(deprecated)]
fn ndarray() -> Result<Device, DeviceError> {
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt {
        backend: "ndarray",
        build: "cargo build --release --features ndarray",
    })
}

#[cfg(feature = "libtorch")]
#[allow(deprecated)]
fn libtorch() -> Result<Device, DeviceError> {
    Ok(Device::libtorch())
}

#[cfg(feature = "libtorch")]
#[allow(deprecated)]
fn libtorch_cuda(index: usize) -> Result<Device, DeviceError> {
    // Lists CUDA devices only. Without this check the first tensor panics.
    let found = Device::enumerate(DeviceType::LibTorch).len();
    if index < found {
        return Ok(Device::libtorch_cuda(index));
    }
    Err(DeviceError::NotFound {
        backend: "LibTorch",
        index,
        found: count(found, "CUDA device"),
        advice: "use 'libtorch' for the CPU, or build against a LibTorch with CUDA (docs/backends.md)",
    })
}

#[cfg(all(feature = "libtorch", target_os = "macos"))]
#[allow(deprecated)]
fn libtorch_mps() -> Result<Device, DeviceError> {
    let device = Device::libtorch_mps();
    open("libtorch:mps", &device)?;
    Ok(device)
}

#[cfg(all(feature = "libtorch", not(target_os = "macos")))]
fn libtorch_mps() -> Result<Device, DeviceError> {
    Err(DeviceError::NotFound {
        backend: "LibTorch",
        index: 0,
        found: "MPS is macOS's alone".to_owned(),
        advice: "use 'libtorch' for the CPU or 'libtorch:cuda:0'",
    })
}

#[cfg(not(feature = "libtorch"))]
const NO_LIBTORCH: DeviceError = DeviceError::NotBuilt {
    backend: "LibTorch",
    build: "eval \"$(bash scripts/libtorch.sh)\" && cargo build --release --features libtorch",
};

#[cfg(not(feature = "libtorch"))]
fn libtorch() -> Result<Device, DeviceError> {
    Err(NO_LIBTORCH)
}

#[cfg(not(feature = "libtorch"))]
fn libtorch_cuda(_: usize) -> Result<Device, DeviceError> {
    Err(NO_LIBTORCH)
}

#[cfg(not(feature = "libtorch"))]
fn libtorch_mps() -> Result<Device, DeviceError> {
    Err(NO_LIBTORCH)
}

/// `None` lets wgpu choose (a GPU before a software renderer); a number counts what it lists.
#[cfg(feature = "wgpu")]
fn wgpu(index: Option<usize>) -> Result<Device, DeviceError> {
    let found = Device::enumerate(DeviceType::Wgpu);
    let device = match index {
        None if found.is_empty() => None,
        None => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        Some(n) => found.get(n).cloned(),
    };
    let Some(device) = device else {
        return Err(DeviceError::NotFound {
            backend: "wgpu",
            index: index.unwrap_or(0),
            found: count(found.len(), "adapter"),
            advice: "install the GPU's Vulkan driver, or on Debian one that runs on the CPU: \
                     apt-get install mesa-vulkan-drivers libvulkan1",
        });
    };
    open("wgpu", &device)?;
    Ok(device)
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt {
        backend: "wgpu",
        build: "cargo build --release --features wgpu",
    })
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    let found = Device::enumerate(DeviceType::Cuda).len();
    if index >= found {
        return Err(DeviceError::NotFound {
            backend: "CUDA",
            index,
            found: count(found, "device"),
            advice: "is NVIDIA's driver installed (nvidia-smi)?",
        });
    }
    let device = Device::cuda(index);
    open("cuda", &device)?;
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt {
        backend: "CUDA",
        build: "cargo build --release --features cuda",
    })
}

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "libtorch"))]
fn count(n: usize, what: &str) -> String {
    match n {
        0 => format!("it finds no {what}"),
        1 => format!("it finds 1 {what}, number 0"),
        n => format!("it finds {n} {what}s, numbers 0 to {}", n - 1),
    }
}

/// Runs the device once: burn opens devices at the first tensor, and panics where that fails.
#[cfg(any(
    feature = "wgpu",
    feature = "cuda",
    all(feature = "libtorch", target_os = "macos")
))]
fn open(backend: &'static str, device: &Device) -> Result<(), DeviceError> {
    let once = || {
        let sum = burn::Tensor::<1>::ones([4], device)
            .sum()
            .try_into_scalar::<f32>();
        match sum {
            Ok(4.0) => Ok(()),
            Ok(other) => Err(format!("1 + 1 + 1 + 1 gave {other}")),
            Err(error) => Err(error.to_string()),
        }
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(once))
        .unwrap_or_else(|panic| {
            Err(panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned()))
        })
        .map_err(|cause| DeviceError::DoesNotOpen { backend, cause })
}
