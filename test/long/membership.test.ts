/** Membership at the size of P9, and what a death costs by the size of a group: what takes minutes. */
import { expect, test } from "vitest";
import { World } from "../fabric/membership-world.ts";
import { MEMBERLIST_WANTED, memberlistMs } from "../fakes/memberlist.ts";

test.each(["deaths", "more deaths", "deaths again"])(
  "P9: of 60 real deaths among 200 nodes, with 10 %% loss, each is known to all in 10 s (%s)",
  (seed) => {
    const world = new World({ seed, lossRatio: 0.1 });
    const nodes = world.startMany(200, (i) => (i === 0 ? [] : [`n${Math.floor(i / 10)}`]));
    expect(world.runFor(30_000, () => world.isConverged())).toBe(true);
    const tookMs: number[] = [];
    for (let i = 0; i < 60; i++) {
      const victim = nodes[199 - i];
      if (victim === undefined) throw new Error("no victim");
      world.crash(victim);
      const startMs = world.nowMs;
      expect(world.runFor(20_000, () => world.countWho(victim.facts.nodeId, "dead") === 199 - i)).toBe(true);
      tookMs.push(world.nowMs - startMs);
    }
    tookMs.sort((a, b) => a - b);
    process.stdout.write(`60 deaths: median ${tookMs[30]} ms, slowest three ${tookMs.slice(-3).join(", ")} ms\n`);
    expect(tookMs).toHaveLength(60);
    expect(tookMs.at(-1)).toBeLessThanOrEqual(10_000);
    expect(world.falseDeaths).toBe(0);
  },
  600_000,
);

/** A group of this size in steady state, then deaths of which everybody comes back: what each costs and how long it takes. */
function groupOf(count: number, deaths: number) {
  const world = new World({ seed: `size${count}` });
  world.startMany(count, (i) => (i === 0 ? [] : ["n0"]));
  expect(world.runFor(60_000, () => world.isConverged())).toBe(true);
  world.runFor(120_000);
  const traffic = (seconds: number) => {
    const { messageCount, sizeBytes } = world;
    world.runFor(seconds * 1000);
    const [messages, bytes] = [world.messageCount - messageCount, world.sizeBytes - sizeBytes];
    return { messages: messages / count / seconds, bytes: bytes / count / seconds };
  };
  const quiet = traffic(240);
  const [busy, verdictMs, detectedMs] = [{ messages: 0, bytes: 0 }, [] as number[], [] as number[]];
  for (let i = 0; i < deaths; i++) {
    const victim = world.nodes.get(`n${1 + ((i * 7) % (count - 1))}`);
    if (victim === undefined) throw new Error("no victim");
    world.seen.length = 0;
    const startMs = world.nowMs;
    world.crash(victim);
    const { messages, bytes } = traffic(DEATH_SECONDS);
    busy.messages += (messages - quiet.messages) * DEATH_SECONDS;
    busy.bytes += (bytes - quiet.bytes) * DEATH_SECONDS;
    expect(world.countWho(victim.facts.nodeId, "dead"), "all know").toBe(count - 1);
    const ofVictim = world.seen.filter(({ nodeId }) => nodeId === victim.facts.nodeId);
    // Who decides first has waited since its own suspicion, which may be another's news.
    const dead = ofVictim.find(({ status }) => status === "dead");
    const own = ofVictim.find(({ by, status }) => by === dead?.by && status === "suspect");
    verdictMs.push((dead?.atMs ?? Number.NaN) - (own?.atMs ?? Number.NaN));
    detectedMs.push((dead?.atMs ?? Number.NaN) - startMs);
    world.give(world.start(victim.facts.nodeId, { generation: 2 + i }), { kind: "join", addresses: ["n0:1"] });
    expect(world.runFor(20_000, () => world.isConverged())).toBe(true);
    world.runFor(10_000);
  }
  expect(world.falseDeaths).toBe(0);
  return { quiet, perDeath: { messages: busy.messages / deaths, bytes: busy.bytes / deaths }, verdictMs, detectedMs };
}

/** By then everybody knows, and has told it as often as it will. */
const DEATH_SECONDS = 20;
/** SWIM §3.1: periods until somebody's turn to probe the dead one comes, on average; then one in which nobody answers. */
const FIRST_PROBE_MS = (Math.E / (Math.E - 1) + 1) * 1000;

/** Members, and deaths: of the small ones many, so that their mean says something. */
const SIZES = [
  [12, 200],
  [100, 50],
  [1000, 10],
] as const;
const COUNTS = SIZES.map(([count]) => count);
const groups = new Map<number, ReturnType<typeof groupOf>>();

test.each(SIZES)(
  "a death among %i nodes is decided no later than memberlist's formula, and an idle group costs each two probes a second",
  (count, deaths) => {
    const group = groupOf(count, deaths);
    groups.set(count, group);
    const { quiet, perDeath, verdictMs, detectedMs } = group;
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const formulaMs = memberlistMs(count, MEMBERLIST_WANTED);
    process.stdout.write(
      `${count} nodes: ${quiet.messages.toFixed(2)} messages and ${quiet.bytes.toFixed(0)} bytes a node and second; ` +
        `a death costs each ${perDeath.messages.toFixed(1)} messages and ${perDeath.bytes.toFixed(0)} bytes more; ` +
        `decided ${mean(verdictMs).toFixed(0)} ms (at most ${Math.max(...verdictMs).toFixed(0)}) after its own suspicion by who was first, ` +
        `memberlist's formula: at least ${formulaMs.toFixed(0)}; ${mean(detectedMs).toFixed(0)} ms after the crash\n`,
    );
    // What the formula gives with all confirmations, which it wants, is the soonest it can be there.
    expect(Math.max(...verdictMs)).toBeLessThanOrEqual(formulaMs + 1);
    expect(mean(detectedMs)).toBeLessThanOrEqual(FIRST_PROBE_MS + formulaMs);
    expect(quiet.messages).toBeLessThan(2.2);
    expect(quiet.bytes).toBeLessThan(200);
  },
  600_000,
);

test("what a death costs a node grows no faster than the logarithm of the group, and what idling costs not at all", () => {
  for (const [i, count] of COUNTS.entries()) {
    const [group, smaller] = [groups.get(count), groups.get(COUNTS[i - 1] ?? 0)];
    if (group === undefined || smaller === undefined) continue;
    const logs = Math.log(count) / Math.log(COUNTS[i - 1] ?? count);
    expect(group.perDeath.messages / smaller.perDeath.messages, `messages of ${count}`).toBeLessThanOrEqual(logs);
    expect(group.perDeath.bytes / smaller.perDeath.bytes, `bytes of ${count}`).toBeLessThanOrEqual(logs);
    expect(group.quiet.messages / smaller.quiet.messages, `idle messages of ${count}`).toBeLessThanOrEqual(1.05);
    expect(group.quiet.bytes / smaller.quiet.bytes, `idle bytes of ${count}`).toBeLessThanOrEqual(1.05);
  }
  expect(groups.size, "each size was measured").toBe(COUNTS.length);
});
