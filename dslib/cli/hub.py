"""``--push_to_hub``: a run's model and its card, without the pictures that show the training images, to the model hub."""

from pathlib import Path

from ..base.errors import UserError, first_line

#: what is pushed. Not report.html and samples.png, which show the training images, nor metrics.json, which names their folder.
PUSHED = ("README.md", "model_index.json", "unet/*", "scheduler/*", "gan.safetensors", "config.json")


def add_pushing(parser) -> None:
    parser.add_argument("--push_to_hub", action="store_true", help="at the end push model and card to the model hub")
    parser.add_argument("--hub_model_id", help="of --push_to_hub: owner/name there; default: the output folder's name, under your login")
    parser.add_argument("--hub_public", action="store_true", help="of --push_to_hub: for everyone to see, not private")


def model_id(args) -> str:
    """Under which name a run is pushed: the one given, or its folder's."""
    name = args.target or Path(args.train_data_dir).resolve().name
    return args.hub_model_id or Path(args.output_dir or f"runs/{name}-{args.method}").resolve().name


def check(args) -> None:
    """Before the work: a name that the hub takes, and a login. Raises UserError."""
    if not getattr(args, "push_to_hub", False):
        for name in ("hub_model_id", "hub_public"):
            if getattr(args, name, None):
                raise UserError(f"--{name} is of --push_to_hub: add that, or leave it out")
        return
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id
    try:
        validate_repo_id(model_id(args))
    except HFValidationError as error:
        raise UserError(f"the model hub takes no name {model_id(args)!r} ({first_line(error)}): give --hub_model_id owner/name") from None
    if constants.HF_HUB_OFFLINE:
        raise UserError("--push_to_hub cannot push while HF_HUB_OFFLINE is set: unset it, or leave the option out")
    try:
        token = get_token()
    except Exception as error:                                    # of a login by another service, for one
        raise UserError(f"--push_to_hub finds no login ({first_line(error)}): hf auth login, or leave the option out") from None
    if not token:
        raise UserError("--push_to_hub needs a login: run 'hf auth login', or set HF_TOKEN to a token that may write, or leave the option "
                        "out")


def push(args, folder: Path) -> None:
    """Push what a finished run left in its folder, if that was asked for. Raises UserError where it fails, which costs the run nothing."""
    if not args.push_to_hub:
        return
    from huggingface_hub import HfApi
    api, name, command = HfApi(), model_id(args), " ".join(f"--include {one}" for one in PUSHED)
    try:
        name = api.create_repo(name, private=not args.hub_public, exist_ok=True).repo_id
        hidden = args.hub_public or api.model_info(name).private             # one that was there keeps what it is
        if hidden:
            api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(PUSHED), commit_message=f"dslib adapt, {args.method}")
    except Exception as error:                                    # the network has errors of many libraries
        command = f"hf upload {name} {folder} . {'' if args.hub_public else '--private '}{command}"
        raise UserError(f"the run is whole in {folder}, but could not be pushed to {name} ({first_line(error)}): '{command}' tries again"
                        ) from None
    if not hidden:
        raise UserError(f"the run is whole in {folder}, but {name} is there already and public, so nothing was pushed: give another "
                        "--hub_model_id, or --hub_public if everyone may see it")
    print(f"Hub:      {name}  ({'public' if args.hub_public else 'private'})")
