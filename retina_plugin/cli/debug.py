"""``retina debug``: run the step again in which a training diverged."""

import argparse

EXAMPLE = "retina debug output/pets/dump_0000123 --precision fp32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("dump", help="the folder that the error named, such as output/pets/dump_0000123")
    parser.add_argument("--device", help="where to run it (default: where it was trained, else the CPU)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="fp32 shows whether the arithmetic is to blame"
    )


def run(args: argparse.Namespace) -> int:
    """Print what the training recorded, and the result of the same step now."""
    import retina_plugin  # noqa: F401  (fills the registries)
    from retina_plugin.engine.dump import read_dump, replay

    facts = read_dump(args.dump)
    images = "\n  ".join(f"{image['file_name']} with {image['boxes']} boxes" for image in facts["images"])
    losses = ", ".join(f"{name} {value:g}" for name, value in facts["losses"].items())
    rates = f"learning rate {facts['learning_rate']:g}, norm of the gradients {facts['gradient_norm']:g}"
    print(f"iteration {facts['iteration'] + 1}, {rates}, {losses}")
    print(f"  {images}\n\nrun again:")
    step = replay(args.dump, device=args.device, precision=args.precision)
    print(step.report())
    if not step.bad_gradients and not step.bad_modules:
        print(
            "\neverything is finite here. The run differed in device or precision, in the random numbers of its layers,"
        )
        print("or the gradient came from another process")
    return 0
