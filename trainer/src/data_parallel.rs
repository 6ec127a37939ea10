//! A batch in parts, each on a device or a thread of its own: the gradient of the whole.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use user_encoder::seed_dropout;

use crate::train::{backward, mix};
use crate::workers::Workers;
use crate::{Error, backend};

/// Where the parts of a batch are computed.
pub(crate) struct DataParallel {
    /// Has the model and the optimizer.
    own: Device,
    /// One for each part, with autodiff.
    devices: Vec<Device>,
    workers: Workers,
}

impl DataParallel {
    /// So many threads on the model's device `own`; or some devices, by their names, in place of it.
    ///
    /// # Errors
    ///
    /// If one of the devices, which stand under `key` in the run file, is not there.
    pub(crate) fn new(
        own: &Device,
        workers: usize,
        key: &'static str,
        devices: &[String],
    ) -> Result<Self, Error> {
        let own = own.clone().autodiff();
        let devices = match devices.is_empty() {
            true => vec![own.clone(); workers],
            false => devices
                .iter()
                .map(|name| match backend::device(name) {
                    Ok(device) => Ok(device.autodiff()),
                    Err(source) => Err(Error::Device { key, source }),
                })
                .collect::<Result<_, Error>>()?,
        };
        Ok(Self {
            own,
            workers: Workers::new(devices.len()),
            devices,
        })
    }

    /// Whether there is nothing but the model's own device, and one part.
    pub(crate) fn is_alone(&self) -> bool {
        self.devices.len() == 1 && self.devices[0] == self.own
    }

    /// One for each part, with autodiff.
    pub(crate) fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The sum of the losses of the parts, and of their gradients.
    ///
    /// `loss` is given a part's device, without autodiff, its number, and the part; it gives a replica of
    /// the model on that device and the loss that it has. Replicas are made by `valid()` and
    /// `train()`, which gives them leaves of their own: parts that share a graph would wait for each
    /// other at every operation. (`fork` does so too, and leaves a node behind for each parameter.) A
    /// part of a mean weighs what it is of the whole. Dropout in a part is a function of `seed` and
    /// of the part's number.
    pub(crate) fn gradients<M: Module, T: Send>(
        &self,
        model: &M,
        parts: Vec<T>,
        seed: u64,
        loss: impl Fn(&Device, usize, T) -> (M, Tensor<1>) + Sync,
    ) -> (f32, GradientsParams) {
        let own = &self.own.clone().without_autodiff();
        let parts = parts.into_iter().enumerate().collect();
        let parts = self.workers.map(parts, |(at, part)| {
            seed_dropout(mix(seed, at as u64));
            let device = self.devices[at].clone().without_autodiff();
            let (replica, loss) = loss(&device, at, part);
            let (value, grads) = backward(loss, &replica);
            (value, grads.to_device(own, &replica))
        });
        let value = parts.iter().map(|(value, _)| value).sum();
        let grads = parts.into_iter().map(|(_, grads)| grads).collect();
        (value, sum(model, grads))
    }
}

/// Rows in so many parts of about the same weight each, none of which is empty: the heaviest first,
/// always to the part that weighs least.
pub(crate) fn even_parts<T>(
    mut rows: Vec<T>,
    n: usize,
    weight: impl Fn(&T) -> usize,
) -> Vec<Vec<T>> {
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    let mut parts: Vec<(usize, Vec<T>)> = (0..n).map(|_| (0, Vec::new())).collect();
    for row in rows {
        let least = parts.iter_mut().min_by_key(|(weight, _)| *weight);
        let (of_part, part) = least.expect("at least one part");
        *of_part += weight(&row);
        part.push(row);
    }
    let parts = parts.into_iter().map(|(_, part)| part);
    parts.filter(|part| !part.is_empty()).collect()
}

/// Gradients added up, parameter by parameter.
fn sum<M: Module>(model: &M, mut parts: Vec<GradientsParams>) -> GradientsParams {
    struct Add<'a> {
        to: &'a mut GradientsParams,
        from: GradientsParams,
    }
    impl ModuleVisitor for Add<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(grad) = self.from.remove::<D>(param.id) else {
                return;
            };
            let grad = match self.to.remove::<D>(param.id) {
                Some(other) => other + grad,
                None => grad,
            };
            self.to.register(param.id, grad);
        }
    }
    let mut all = parts.swap_remove(0);
    for from in parts {
        model.visit(&mut Add { to: &mut all, from });
    }
    all
}
