/**
 * What does it cost to build the summaries of a cluster? CPU of the builder of one node that exports all 1,000 services of 100 endpoints each, while 1,000 endpoints a second
 * come, go and change; and what its start costs. And for how long does a node hold its loop that says 10,000 summaries for the first time, and signs them anew with another key?
 * `npm run bench -- building [--seconds 60]`
 */
import { SCOPE } from "../src/catalog/entry/scope.ts";
import { HEALTH } from "../src/catalog/record/record.ts";
import { Rng } from "../src/lib/rng.ts";
import { Summaries } from "../src/node/core/regions/summaries.ts";
import type { NodeOutput } from "../src/node/core-io.ts";
import { HISTORY_BOUNDS, PolicyEngine } from "../src/policy/versions/engine.ts";
import { KEY_BOUNDS } from "../src/seal/cluster-keys.ts";
import { KeyRegistry } from "../src/seal/key-registry.ts";
import type { Draft } from "../src/summary/building/drafts.ts";
import { signingKey } from "../test/fakes/signing-keys.ts";
import { type EntrySpec, SummaryWorld } from "../test/fakes/summary-world.ts";
import { argsOf } from "./_args.ts";
import { percentile, report, round } from "./_results.ts";

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

const SIGNED = 10_000;
const PLACE = { nodeId: "a", clusterId: "c1", region: "r1" };
const TIMES = {
  ttlMs: 120_000,
  staleKeepMs: 600_000,
  maxClockSkewMs: 600_000,
  pruneIntervalMs: 30_000,
  holdDownMs: 5000,
  exportIntervalMs: 30_000,
};
const EXPORTS = { isExporting: true, exportScope: SCOPE.GLOBAL, exportNamespaces: [], includeUnscoped: true, requireSignatures: true };
const NO_BORDERS = { storeForwardMs: 300_000, storeForwardMaxMessages: 200, borderExports: new Map<string, never>(), neighbours: [] };

/** The summaries of a node that stands alone, as the node steps them: it counts, signs, holds and shows. The second key takes the place of the first. */
class Signing {
  readonly world = new SummaryWorld();
  readonly #keys = new KeyRegistry(KEY_BOUNDS);
  readonly #summaries: Summaries;
  #key = signingKey(1);

  constructor() {
    const { world } = this;
    const rows = [1, 2].map((number) => ({ cluster: PLACE.clusterId, region: PLACE.region, publicKey: signingKey(number).publicKey.raw }));
    this.#keys.configure(rows, world.time);
    const keyNow = () => this.#key;
    const signer: ConstructorParameters<typeof Summaries>[1]["signer"] = {
      get keyId() {
        return keyNow().keyId;
      },
      sign: (context, bytes) => keyNow().sign(context, bytes),
    };
    const none: readonly never[] = [];
    const policies = new PolicyEngine({ ...PLACE, ...HISTORY_BOUNDS });
    const ignored = () => {
      // Nobody reads here.
    };
    const parts = { keys: this.#keys, signer, announcements: () => none, imports: () => true, onDenied: ignored, onAgain: ignored };
    this.#summaries = new Summaries(
      { ...PLACE, generation: 1, ...TIMES, ...EXPORTS, ...NO_BORDERS },
      { catalog: world.node("a").catalog, policies, node: { ...PLACE, boot: "b1" }, now: () => world.time, ...parts },
    );
    for (let i = 0; i < SIGNED; i += 1) world.put({ namespace: `svc.team-${i % 50}.prod`, name: `checkout-${i}`, id: `checkout-${i}-1` });
  }

  changeKey(): void {
    this.#key = signingKey(2);
  }

  /** Steps for so long, and says what was signed and how long each step that signed held the loop: CPU, and by the clock. */
  run(ms: number): { readonly signed: number; readonly cpusMs: readonly number[]; readonly clockMs: number } {
    const { world } = this;
    const until = world.ms + ms;
    const cpusMs: number[] = [];
    let [signed, clockMs] = [0, 0];
    while (world.ms < until) {
      const out: NodeOutput[] = [];
      const [sinceMs, before] = [performance.now(), process.threadCpuUsage()];
      this.#summaries.step({ fabric: undefined, isReady: true }, world.time, out);
      const { user, system } = process.threadCpuUsage(before);
      const count = out.filter(({ kind }) => kind === "summaryExported").length;
      signed += count;
      if (count > 0) {
        cpusMs.push((user + system) / 1000);
        clockMs = Math.max(clockMs, performance.now() - sinceMs);
      }
      world.ms = Math.max(world.ms + 1, Math.min(this.#summaries.nextDeadlineMs(true), until));
    }
    return { signed, cpusMs, clockMs };
  }
}

function signingRow(what: string, { signed, cpusMs, clockMs }: ReturnType<Signing["run"]>) {
  const worst = Math.max(0, ...cpusMs);
  return {
    worst,
    row: {
      what,
      summaries: signed,
      steps: cpusMs.length,
      "CPU ms": round(cpusMs.reduce((sum, ms) => sum + ms, 0)),
      "a step, p50": percentile(cpusMs, 0.5),
      p99: percentile(cpusMs, 0.99),
      worst: round(worst),
      "worst by the clock, ms": round(clockMs),
    },
  };
}

function signings() {
  const bench = new Signing();
  const first = signingRow("first said", bench.run(SETTLING_MS));
  bench.changeKey();
  return { first, again: signingRow("signed anew, with another key", bench.run(SETTLING_MS)) };
}

/** The first one is for the code to be compiled. */
signings();
const { first, again } = signings();
const [plain, loaded] = [measured(false), measured(true)];

report({
  name: "building",
  tables: {
    "the builder alone, 1,000 services of 100 endpoints": [plain.start, plain.churn, loaded.churn],
    "10,000 summaries at a node that has them all: a step of all that it does with summaries": [first.row, again.row],
  },
  goals: [
    { name: "building at 1,000 changes a second", value: Math.max(plain.share, loaded.share), unit: "% of a core", atMost: 5 },
    { name: "longest tick of it", value: Math.max(plain.longestMs, loaded.longestMs), unit: "ms of CPU", atMost: 10 },
    { name: "longest step while 10,000 summaries are signed anew", value: again.worst, unit: "ms of CPU", atMost: 10 },
    { name: "longest step while 10,000 summaries are said first", value: first.worst, unit: "ms of CPU", atMost: 10 },
  ],
  notes: [
    "Of the changes half remove an endpoint and half put one, of which a tenth is critical. One node exports all services, and time is virtual. Signing is not in it.",
    "With 10,000 summaries the steps that sign are measured, with code that has run before: counting, signing, holding and showing. A step signs as many as its slice lets it. On a quiet machine the worst by the clock is that of CPU.",
  ],
});
