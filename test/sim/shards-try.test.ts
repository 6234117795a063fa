import { test } from "vitest";
import { runSeed } from "./shards.ts";

test("try", { timeout: 600_000 }, () => {
  const [from = 1, to = 8] = (process.env["SEEDS"] ?? "1-8").split("-").map(Number);
  for (let seed = from; seed <= to; seed++) {
    const trace: string[] | undefined = process.env["TRACE"] ? [] : undefined;
    const t = performance.now();
    const { violation, ...rest } = runSeed(seed, trace);
    console.log(seed, Math.round(performance.now() - t), "ms", violation ?? "ok", JSON.stringify(rest));
    if (trace) console.log(trace.slice(-Number(process.env["TRACE"])).join("\n"));
  }
});
