# configs/pretrain/internvl2_4b_radio.yaml under `xtuner train`, on 8 GPUs, with DeepSpeed if wanted:
#   NPROC_PER_NODE=8 xtuner train configs/xtuner/pretrain_internvl2_4b_radio.py --deepspeed deepspeed_zero2
# All other settings (data, optimizer, steps, logs, checkpoints) are read from the YAML file.
from mmengine.optim import OptimWrapper

from colva.training.xtuner_hook import StageHook
from colva.training.xtuner_parts import StageLoop, StageModel, StageOptimizer, StageSchedule

# changes: as for `colva train --set`; resume: continue from the newest complete checkpoint, if there is one
run = dict(config="configs/pretrain/internvl2_4b_radio.yaml", changes=[], resume=False)

model = dict(type=StageModel, **run)
train_dataloader = dict(batch_size=8)  # trainer.micro_batch_size
train_cfg = dict(type=StageLoop, **run)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=StageOptimizer, **run),
    accumulative_counts=1,  # trainer.global_batch_size / (trainer.micro_batch_size * devices)
    clip_grad=dict(max_norm=1.0),  # optimizer.max_grad_norm
)
param_scheduler = [dict(type=StageSchedule, **run)]
env_cfg = dict(dist_cfg=dict(backend="nccl"))  # required by `--deepspeed`
custom_hooks = [dict(type=StageHook, **run)]
default_hooks = dict(runtime_info=None, timer=None, sampler_seed=None, logger=None, checkpoint=None)
