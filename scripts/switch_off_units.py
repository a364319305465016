"""Switch sets of units of one model off, on one shard of source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.explainers import interventions
    from unitlens.networks import network
    from unitlens.storage.arrays import open_arrays, read_arrays, write_arrays

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=[params.layer])
    (sets, facts), (trials, _) = read_arrays(files.sets), read_arrays(files.trials)
    with open_arrays(files.images) as file:
        arrays = interventions.run_trials(
            file,
            sets["units"],
            trials,
            net.model,
            params.layer,
            net.normalize,
            batch_size=snakemake.resources.batch_size,
            device=net.device,
        )
    write_arrays(snakemake.output[0], arrays, facts)
