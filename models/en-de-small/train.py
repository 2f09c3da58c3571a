"""Trains the shipped English-German T5 from sentence pairs; one command, resumable, on a GPU when there is one.

    python models/en-de-small/train.py --data DIR --state DIR --minutes 60    # train (again: goes on), then export
    python models/en-de-small/train.py --data DIR --state DIR --export        # only write the checkpoint, with figures

DIR of --data holds train.tsv.gz and dev.tsv.gz (English<TAB>German). The rate follows the clock, so that training ends
fully decayed after --minutes however busy the machine is. Recipe and figures: README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads halve the speed beside any other work
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import sentencepiece as spm
import torch
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration, T5Tokenizer

from alignment import Alignments
from forward import loss_of
from muon import Muon
from pairs import PREFIX, VOCABULARY, Batches, Pair, read_pairs, tensors, train_vocabulary
from quality import scores, translate

HERE = Path(__file__).resolve().parent
LAST_KEPT = 4


def new_model() -> T5ForConditionalGeneration:
    config = T5Config(
        vocab_size=VOCABULARY, d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_decoder_layers=4, num_heads=4,
        feed_forward_proj="relu", dropout_rate=0.1, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    return T5ForConditionalGeneration._from_config(config, attn_implementation="sdpa")


def save(file: Path, model, muon, adam, done: dict) -> None:
    """Written aside, then renamed: a crash leaves the state before."""
    parts = {"model": model.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict(), "done": done}
    torch.save(parts, file.with_suffix(".new"))
    file.with_suffix(".new").rename(file)


def keep_weights(folder: Path, model, step: int, bleu: float) -> None:
    """Keeps the weights of the last evaluations, and of the best before them, for ``chosen_weights``."""
    torch.save({"step": step, "bleu": bleu, "weights": model.state_dict()}, folder / f"weights-{step:06d}.pt")
    older = [torch.load(f, weights_only=True, mmap=True) for f in sorted(folder.glob("weights-*.pt"))[:-LAST_KEPT]]
    best = max((part["bleu"] for part in older), default=None)
    for part in older:
        if part["bleu"] != best:
            (folder / f"weights-{part['step']:06d}.pt").unlink()


def chosen_weights(folder: Path, model, sp, dev: list[Pair]) -> str:
    """Loads into ``model`` whichever of the kept weights, and means of the last, translates a quarter of dev best; says which."""
    parts = [torch.load(file, weights_only=True, map_location="cpu") for file in sorted(folder.glob("weights-*.pt"))]
    candidates = {f"step {part['step']}": [part] for part in (parts[-1], max(parts, key=lambda p: p["bleu"]))}
    candidates |= {f"mean of the last {n} evaluations": parts[-n:] for n in (2, 3, LAST_KEPT) if n <= len(parts)}
    found: dict[str, tuple[float, dict]] = {}
    for name, group in candidates.items():
        mean = {key: sum(part["weights"][key] for part in group) / len(group) for key in group[0]["weights"]}
        model.load_state_dict(mean)
        found[name] = (scores(model, sp, dev[::4])[0], mean)
        print(f"{name}: dev BLEU {found[name][0]}", flush=True)
    name = max(found, key=lambda key: found[key][0])
    model.load_state_dict(found[name][1])
    return name


def train(args: argparse.Namespace) -> None:
    state_file, spiece = args.state / "state.pt", args.state / "spiece.model"
    args.state.mkdir(parents=True, exist_ok=True)
    pairs, dev = read_pairs(args.data / "train.tsv.gz"), read_pairs(args.data / "dev.tsv.gz")
    if not spiece.exists():
        train_vocabulary(pairs, spiece)
    sp = spm.SentencePieceProcessor(model_file=str(spiece))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = new_model().to(device).eval()
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "shared" not in n and "relative" not in n]
    small = [p for n, p in named if p.ndim < 2 or "relative" in n]
    muon = Muon(matrices, lr=args.lr, weight_decay=0.01)
    adam = torch.optim.AdamW(
        [{"params": [model.shared.weight], "scale": args.embedding_lr}, {"params": small, "scale": args.small_lr}],
        lr=1.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True,
    )  # fmt: skip
    done: dict = {"step": 0, "epoch": 0, "seconds": 0.0, "tokens": 0, "log": []}
    if state_file.exists():
        saved = torch.load(state_file, weights_only=True)
        model.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        done = saved["done"]
    batches = Batches(pairs, sp, args.tokens, args.seed)
    total, last_eval, last_save = args.minutes * 60, done["seconds"], done["seconds"]
    guided_until = args.guided_until * total
    alignments = Alignments(batches.english, batches.german) if done["seconds"] < guided_until else None
    last = time.monotonic()
    smooth = smooth_guided = None
    while done["seconds"] < total:
        joined = done["seconds"] >= args.joined_from * total
        for batch in batches.epoch(done["epoch"], joined=joined):
            now = time.monotonic()
            done["seconds"] += min(now - last, 30)  # a process that was suspended meanwhile has not trained
            last = now
            share = done["seconds"] / total
            if share >= 1 or (not joined and share >= args.joined_from):
                break
            rate = min(1.0, (done["step"] + 1) / args.warmup) * min(1.0, (1 - share) / args.decay)
            for group in muon.param_groups:
                group["lr"] = args.lr * rate
            for group in adam.param_groups:
                group["lr"] = group["scale"] * rate
            source, target = tensors(batch, device)
            weight = max(0.0, 1 - done["seconds"] / guided_until)
            guide = alignments.guide(batch, source, target, batches.prefix) if alignments and weight else None
            loss, guided, count = loss_of(model, source, target, 0.1, guide, args.stutter if joined else 0.0)
            (loss + 0.5 * weight * guided).backward()
            torch.nn.utils.clip_grad_norm_([*small, model.shared.weight], 1.0)
            muon.step()
            adam.step()
            model.zero_grad(set_to_none=True)
            done["step"] += 1
            done["tokens"] += count
            value, other = loss.item(), guided.item() / 2
            smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
            smooth_guided = other if smooth_guided is None else 0.98 * smooth_guided + 0.02 * other
            if done["step"] % 100 == 0:
                speed = done["tokens"] / done["seconds"]
                print(f"step {done['step']} epoch {done['epoch']} {done['seconds']:.0f} s loss {smooth:.3f} guided "
                      f"{smooth_guided:.3f} rate {rate:.2f} target tokens/s {speed:.0f}", flush=True)  # fmt: skip
            if done["seconds"] - last_eval > args.eval_every:
                last_eval = done["seconds"]
                bleu, chrf = scores(model, sp, dev[:200], longest=100)
                done["log"].append([done["step"], done["seconds"], smooth, bleu, chrf])
                print(f"== dev[:200] BLEU {bleu:.2f} chrF {chrf:.2f}", flush=True)
                keep_weights(args.state, model, done["step"], bleu)
            if done["seconds"] - last_save > args.save_every:
                last_save = done["seconds"]
                save(state_file, model, muon, adam, done)
        done["epoch"] += 1
    save(state_file, model, muon, adam, done)
    keep_weights(args.state, model, done["step"], scores(model, sp, dev[:200], longest=100)[0])


def export(args: argparse.Namespace) -> None:
    """Writes the bf16 checkpoint and the tokenizer into this file's folder, and prints the card's figures."""
    done = torch.load(args.state / "state.pt", weights_only=True, map_location="cpu", mmap=True)["done"]
    dev = read_pairs(args.data / "dev.tsv.gz")
    sp = spm.SentencePieceProcessor(model_file=str(args.state / "spiece.model"))
    model = new_model().eval()
    chosen = chosen_weights(args.state, model, sp, dev)
    (HERE / "spiece.model").write_bytes((args.state / "spiece.model").read_bytes())
    tokenizer = T5Tokenizer.from_pretrained(str(HERE), extra_ids=0)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(HERE)
    model.generation_config.max_new_tokens = 160
    sets = {"dev": dev}
    if (HERE / "eval.tsv").exists():
        rows = (HERE / "eval.tsv").read_text(encoding="utf-8").splitlines()
        sets["eval"] = [(row.split("\t")[0], row.split("\t")[1]) for row in rows]
    precise = {name: value.clone() for name, value in model.state_dict().items()}
    model = model.to(torch.bfloat16)
    model.config.dtype = "bfloat16"
    model.save_pretrained(HERE)
    shipped = T5ForConditionalGeneration.from_pretrained(HERE, dtype=torch.float32)
    model = new_model().eval()
    model.load_state_dict(precise)
    figures: dict = {"weights": chosen, "steps": done["step"], "minutes": round(done["seconds"] / 60, 1)}
    for beams in (1, 4) if args.figures else ():
        for name, pairs in sets.items():
            for weights, each in (("float32", model), ("shipped bfloat16", shipped)):
                figures[f"{name}, {weights}, beams {beams}"] = scores(each, sp, pairs, beams)
                print(json.dumps(figures), flush=True)
    check = AutoTokenizer.from_pretrained(HERE)
    differing = sum(check(PREFIX + e)["input_ids"] != [*sp.encode(PREFIX + e), 1] for e, _ in dev)
    print(json.dumps(figures | {"dev sentences tokenized differently": differing}, indent=1))
    print(translate(shipped, sp, ["The cat sat on the mat."])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--state", type=Path, required=True, help="folder for what is needed to go on later; not in the repository")
    add("--minutes", type=float, default=60.0, help="by the clock, of training in all, over all sittings")
    add("--lr", type=float, default=6e-3, help="of the hidden matrices")
    add("--embedding-lr", type=float, default=1e-2)
    add("--small-lr", type=float, default=5e-3, help="of norms and position biases")
    add("--tokens", type=int, default=3072, help="padded source and target tokens a batch")
    add("--warmup", type=int, default=60, help="steps")
    add("--decay", type=float, default=0.7, help="share of the time over which the rate falls to zero")
    add("--guided-until", type=float, default=0.5, help="share of the time until which attention is shown alignments")
    add("--joined-from", type=float, default=0.65, help="share of the time from which paragraphs are trained")
    add("--stutter", type=float, default=0.4, help="share of paragraphs' decoder inputs that repeat themselves")
    add("--eval-every", type=float, default=300.0, help="seconds")
    add("--save-every", type=float, default=240.0, help="seconds")
    add("--threads", type=int, default=2)
    add("--seed", type=int, default=1)
    add("--export", action="store_true", help="no training")
    add("--figures", action=argparse.BooleanOptionalAction, default=True, help="score dev and eval.tsv at export")
    args = parser.parse_args()
    if not args.export:
        train(args)
    export(args)


if __name__ == "__main__":
    main()
