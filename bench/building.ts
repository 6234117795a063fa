/**
 * What does it cost to build the summaries of a cluster? CPU of the builder of one node that exports all 1,000 services of 100 endpoints each, while 1,000 endpoints a second
 * come, go and change; and what its start costs. `npm run bench -- building [--seconds 60]`
 */
import { HEALTH } from "../src/catalog/record/record.ts";
import { Rng } from "../src/lib/rng.ts";
import type { Draft } from "../src/summary/building/drafts.ts";
import { type EntrySpec, SummaryWorld } from "../test/fakes/summary-world.ts";
import { argsOf } from "./_args.ts";
import { report, round } from "./_results.ts";

const SECONDS = argsOf({ seconds: 60 }).seconds;
const SERVICES = 1000;
const ENDPOINTS = 100_000;
/** Until all that was sent at the start is confirmed. */
const SETTLING_MS = 70_000;

function endpoint(i: number, isLoaded: boolean): EntrySpec {
  const service = i % SERVICES;
  const spec = { namespace: `svc.team-${service % 50}.prod`, name: `checkout-${service}`, id: `checkout-${service}-6d4cf56db6-${i}` };
  return isLoaded ? { ...spec, latencyMs: 1 + (i % 50) } : spec;
}

class Measured {
  readonly world = new SummaryWorld();
  cpuMs = 0;
  longestMs = 0;
  ticks = 0;
  drafts = 0;

  reset(): void {
    Object.assign(this, { cpuMs: 0, longestMs: 0, ticks: 0, drafts: 0 });
  }

  /** Time goes on. Only the builder is measured, not the catalog and not what holds its drafts. */
  run(ms: number): void {
    const { world } = this;
    const node = world.node("a");
    const until = world.ms + ms;
    for (let next = node.builder.nextDeadlineMs(); next <= until; next = node.builder.nextDeadlineMs()) {
      world.ms = Math.max(world.ms, next);
      const drafts: Draft[] = [];
      const before = process.threadCpuUsage();
      node.builder.tick(world.time, drafts);
      const { user, system } = process.threadCpuUsage(before);
      const tookMs = (user + system) / 1000;
      this.cpuMs += tookMs;
      this.longestMs = Math.max(this.longestMs, tookMs);
      this.ticks += 1;
      this.drafts += drafts.length;
      for (const { facts } of drafts)
        node.hold({ ...facts, generatedWallMs: world.time.wallMs, exporter: node.id, keyId: node.keyId }, node.id, world.time);
    }
    world.ms = until;
  }

  row(name: string, seconds: number | undefined) {
    const share = seconds === undefined ? {} : { "CPU, % of a core": round(this.cpuMs / seconds / 10) };
    return {
      what: name,
      "CPU ms": round(this.cpuMs),
      ...share,
      ticks: this.ticks,
      "longest tick, CPU ms": round(this.longestMs),
      summaries: this.drafts,
    };
  }
}

function measured(isLoaded: boolean) {
  const rng = new Rng(1);
  const bench = new Measured();
  const { world } = bench;
  for (let i = 0; i < ENDPOINTS; i += 1) world.put(endpoint(i, isLoaded));
  bench.run(1000);
  const start = bench.row("start", undefined);
  bench.run(SETTLING_MS);
  bench.reset();
  for (let ms = 0; ms < SECONDS * 1000; ms += 1) {
    const spec = endpoint(Math.floor(rng.next() * ENDPOINTS), isLoaded);
    if (rng.next() < 0.5) world.remove(spec);
    else world.put({ ...spec, health: rng.next() < 0.9 ? HEALTH.HEALTHY : HEALTH.CRITICAL });
    bench.run(1);
  }
  return {
    start,
    churn: bench.row(`1,000 changes a second${isLoaded ? ", all with load reports" : ""}`, SECONDS),
    share: bench.cpuMs / SECONDS / 10,
    longestMs: bench.longestMs,
  };
}

const [plain, loaded] = [measured(false), measured(true)];

report({
  name: "building",
  tables: { "the builder alone, 1,000 services of 100 endpoints": [plain.start, plain.churn, loaded.churn] },
  goals: [
    { name: "building at 1,000 changes a second", value: Math.max(plain.share, loaded.share), unit: "% of a core", atMost: 5 },
    { name: "longest tick of it", value: Math.max(plain.longestMs, loaded.longestMs), unit: "ms of CPU", atMost: 10 },
  ],
  notes: [
    "Of the changes half remove an endpoint and half put one, of which a tenth is critical. One node exports all services, and time is virtual. Signing is not in it.",
  ],
});
