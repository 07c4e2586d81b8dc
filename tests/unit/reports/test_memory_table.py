from mentallam.reports.memory_table import memory_table

SIZES = {"weights": 13_300, "gradients": 100, "optimizer": 200, "kept": 10, "activations": 25_840, "workspace": 100}
STEP = {"quantization": "none", "optimizer_name": "adamw", "gradient_checkpointing": False, "configured": False}


def test_a_row_per_part_and_a_column_per_way_of_training() -> None:
    sizes = {part: megabytes * 10**6 for part, megabytes in SIZES.items()}
    step = {**STEP, **sizes, "total": sum(sizes.values())}
    table = memory_table(
        {
            "model": "mentallam",
            "dtype": "bfloat16",
            "parameters": {"total": 6_628_708_352, "trainable": 21_000_000},
            "pass": {"ranks": 1, "posts": 4, "pairs": 36, "tokens_per_pair": 512},
            "steps": [
                step,
                {**step, "gradient_checkpointing": True, "configured": True},
                {**step, "quantization": "nf4", "optimizer_name": "adamw_8bit"},
            ],
        }
    )
    assert table.title == "mentallam, bfloat16: 6,628,708,352 parameters, 21,000,000 trained"
    assert table.caption == "One pass: 4 posts, 36 pairs of up to 512 tokens. * as configured"
    names = ["GB", "all activations", "checkpointing *", "nf4, adamw_8bit, all activations"]
    assert [column.header for column in table.columns] == names
    assert list(table.columns[0].cells) == [*SIZES, "total"]
    assert list(table.columns[1].cells) == ["13.30", "0.10", "0.20", "0.01", "25.84", "0.10", "39.55"]
