/** The life of links: greeting, duplicates, refusals, bounds, trying again. */
import { expect, test } from "vitest";
import { ForeignPeers } from "../../../src/fabric/links/foreign-peers.ts";
import type { LinkRow } from "../../../src/fabric/links/link-state.ts";
import { Links } from "../../../src/fabric/links/links.ts";
import type { LinksOptions, LinksOutput } from "../../../src/fabric/links/options.ts";
import type { PeerRefusal } from "../../../src/fabric/links/peer-auth.ts";
import type { Goodbye, Hello, MemberUpdate, PeerIdentity } from "../../../src/fabric/wire/messages.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { greetingOf } from "../../fakes/fabric-world.ts";
import { LINKS_OPTIONS } from "../../fakes/options.ts";

const PROOF: PeerIdentity = { address: "10.0.0.9:5555", isLoopback: true, certificate: undefined, clusterToken: "" };

function memberOf(nodeId: string, more: Partial<MemberUpdate> = {}): MemberUpdate {
  const { clusterToken: _t, ...hello } = greetingOf(nodeId);
  const rest = { transports: ["h2"], roles: [], labels: {}, healthScore: 0, status: "alive", incarnation: 1, accuser: "" } as const;
  return { ...hello, ...rest, ...more };
}

const FACTS = { isReady: true, runsChecks: false, holdsSummaries: false, policyFrom: [] };

/** One node's links, and what they said. */
class Bench {
  readonly links: Links;
  readonly said: LinksOutput[] = [];
  members: readonly MemberUpdate[] = [];
  /** What is against every start that greets. */
  startRefusal: PeerRefusal | undefined;
  /** Whether another start goes under the id of everybody who is linked. */
  areStrangers = false;
  nowMs = 1000;

  constructor(nodeId = "m", options: Partial<LinksOptions> = {}) {
    const place = { clusterId: "c1", region: "r1" };
    const foreignPeers = new ForeignPeers(place, { mode: "permissive", clusters: [], hasCertificates: false }, () => false);
    const peerAuth = { nodeId, ...place, clusterToken: "secret", isInsecure: false, foreignPeers };
    const starts = { refusalOfStart: () => this.startRefusal, isStranger: () => this.areStrangers };
    const known = { self: () => memberOf(nodeId), members: () => this.members, facts: () => FACTS, ...starts };
    const parts = { ...known, peerAuth, rng: new Rng(1) };
    this.links = new Links({ ...LINKS_OPTIONS, ...options }, parts);
  }

  /** Gives an input; returns what was said to it. */
  handle(input: Parameters<Links["handle"]>[0]): readonly LinksOutput[] {
    const out: LinksOutput[] = [];
    this.links.handle(input, { monoMs: this.nowMs, wallMs: 0 }, out);
    this.said.push(...out);
    return out;
  }

  know(...members: readonly MemberUpdate[]): readonly LinksOutput[] {
    this.members = members;
    this.nowMs += LINKS_OPTIONS.chooseEveryMs;
    return this.handle({ kind: "members" });
  }

  /** Ticks whenever it is due. */
  run(forMs: number): readonly LinksOutput[] {
    const from = this.said.length;
    const untilMs = this.nowMs + forMs;
    for (;;) {
      const dueMs = this.links.nextDeadlineMs();
      if (dueMs > untilMs) break;
      this.nowMs = Math.max(this.nowMs, dueMs);
      this.handle({ kind: "tick" });
    }
    this.nowMs = untilMs;
    return this.said.slice(from);
  }

  /** The link to a node that is up. */
  upTo(nodeId: string): LinkRow | undefined {
    return [...this.links.rows].find((row) => row.state === "up" && row.nodeId === nodeId);
  }

  incoming(link: number, hello: Hello, identity = PROOF): readonly LinksOutput[] {
    return [...this.handle({ kind: "opened", link, isIncoming: true, identity }), ...this.handle({ kind: "hello", link, hello })];
  }

  /** Opens the link it asked for last, and answers its hello. */
  answer(link: number, hello: Hello): readonly LinksOutput[] {
    return [...this.handle({ kind: "opened", link, isIncoming: false, identity: PROOF }), ...this.handle({ kind: "hello", link, hello })];
  }

  states(): readonly string[] {
    return [...this.links.rows].map(({ link, nodeId, state }) => `${link} ${nodeId} ${state}`);
  }
}

function kinds(out: readonly LinksOutput[]): readonly string[] {
  return out.flatMap((output) => (output.kind === "wanted" ? [] : "link" in output ? [`${output.kind} ${output.link}`] : [output.kind]));
}

test("an outgoing link: opened, greeted first, up when the answer is trusted", () => {
  const bench = new Bench("m");
  expect(kinds(bench.know(memberOf("z")))).toEqual(["open 2"]);
  expect(kinds(bench.handle({ kind: "opened", link: 2, isIncoming: false, identity: PROOF }))).toEqual(["send 2"]);
  expect(bench.links.next(2)).toMatchObject({ kind: "hello", hello: { nodeId: "m", clusterToken: "secret" } });
  expect(kinds(bench.handle({ kind: "hello", link: 2, hello: greetingOf("z") }))).toEqual(["up 2"]);
  expect(bench.upTo("z")).toMatchObject({ link: 2, state: "up", protocolVersion: 2 });
});

test("an incoming link is answered only when its hello is trusted", () => {
  const bench = new Bench("m");
  bench.handle({ kind: "opened", link: 1, isIncoming: true, identity: PROOF });
  expect(bench.links.next(1)).toBeUndefined();
  expect(kinds(bench.handle({ kind: "hello", link: 1, hello: greetingOf("z") }))).toEqual(["send 1", "up 1"]);
  expect(bench.links.next(1)?.kind).toBe("hello");
});

test("who answers a greeting may have said it since we greeted; who greets us says nothing more before it has our answer", () => {
  const greetedMonoMs = (out: readonly LinksOutput[]) => out.flatMap((output) => (output.kind === "up" ? [output.greetedMonoMs] : []));
  const outgoing = new Bench("m");
  outgoing.know(memberOf("z"));
  const openedMonoMs = outgoing.nowMs;
  outgoing.handle({ kind: "opened", link: 2, isIncoming: false, identity: PROOF });
  outgoing.nowMs += 4000;
  expect(greetedMonoMs(outgoing.handle({ kind: "hello", link: 2, hello: greetingOf("z") }))).toEqual([openedMonoMs]);
  const incoming = new Bench("m");
  incoming.handle({ kind: "opened", link: 1, isIncoming: true, identity: PROOF });
  incoming.nowMs += 4000;
  expect(greetedMonoMs(incoming.handle({ kind: "hello", link: 1, hello: greetingOf("z") }))).toEqual([incoming.nowMs]);
});

test("the token is not told to a node that proves itself by a certificate, nor on a connection that proves nothing", () => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.handle({ kind: "opened", link: 2, isIncoming: false, identity: { ...PROOF, certificate: { nodeId: "z", clusterId: "c1" } } });
  expect(bench.links.next(2)).toMatchObject({ hello: { clusterToken: "" } });
  const plain = new Bench("m");
  plain.know(memberOf("z"));
  plain.handle({ kind: "opened", link: 2, isIncoming: false, identity: { ...PROOF, isLoopback: false } });
  expect(plain.links.next(2)).toMatchObject({ kind: "goodbye", reason: "wrong_identity" });
});

test("the smaller id opens at once, the other a little later unless the link is there by then", () => {
  const greater = new Bench("m");
  expect(kinds(greater.know(memberOf("a")))).toEqual([]);
  expect(kinds(greater.run(1000))).toEqual(["open 2"]);
  const met = new Bench("m");
  met.know(memberOf("a"));
  met.incoming(1, greetingOf("a"));
  expect(kinds(met.run(1000))).toEqual([]);
});

test.each([
  ["m", "z", "the smaller one's own"],
  ["m", "a", "the one the smaller one opened"],
])("two links opened at the same time by %s and %s: what stays is %s", (self, other) => {
  const bench = new Bench(self);
  bench.know(memberOf(other));
  bench.run(1000);
  bench.incoming(1, greetingOf(other));
  const out = bench.answer(2, greetingOf(other));
  const stays = self < other ? 2 : 1;
  expect(bench.upTo(other)?.link).toBe(stays);
  const ended = stays === 2 ? 1 : 2;
  expect(kinds(out)).toContain(`close ${ended}`);
  // What was to be said on it before is not said any more.
  expect(bench.links.next(ended)).toEqual({ kind: "goodbye", reason: "duplicate_link", detail: "" });
});

test("a second link to a node that was linked for long: the first is lost, whoever opened it", () => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.answer(2, greetingOf("z"));
  bench.run(60_000);
  const out = bench.incoming(1, greetingOf("z"));
  expect(kinds(out)).toEqual(["send 2", "close 2", "down 2", "send 1", "up 1"]);
});

test("a newer generation takes the place of an older one at once, and never the other way round", () => {
  const bench = new Bench("m");
  bench.incoming(1, greetingOf("z", { generation: 2 }));
  bench.incoming(3, greetingOf("z", { generation: 3 }));
  expect(bench.upTo("z")?.link).toBe(3);
  const out = bench.incoming(5, greetingOf("z", { generation: 2 }));
  expect(bench.links.next(5)).toMatchObject({ kind: "goodbye", reason: "duplicate_node" });
  expect(out.find(({ kind }) => kind === "event")).toMatchObject({ event: { severity: "error", isAudited: true } });
});

test("a newer generation at another address waits until membership knows the older one no more", () => {
  const bench = new Bench("m");
  const [older, newer] = [greetingOf("z", { generation: 2 }), greetingOf("z", { generation: 3, address: "10.0.0.77:1" })];
  bench.know(memberOf("z", { generation: 2 }));
  bench.incoming(1, older);
  const out = bench.incoming(3, newer);
  expect(bench.links.next(3)).toMatchObject({ kind: "goodbye", reason: "duplicate_node" });
  expect(out.find(({ kind }) => kind === "event")).toMatchObject({ event: { severity: "error", isAudited: true } });
  expect(bench.upTo("z")?.link).toBe(1);
  bench.know(memberOf("z", { generation: 3, address: "10.0.0.77:1" }));
  bench.incoming(5, newer);
  expect(bench.upTo("z")?.link).toBe(5);
});

test.each([
  ["a wrong token", greetingOf("z", { clusterToken: "x" }), "wrong_token"],
  ["our own id", greetingOf("m"), "duplicate_node"],
  ["another protocol", greetingOf("z", { protocolVersions: [9] }), "incompatible"],
] as const)("a peer with %s is refused, told to the audit, and not tried again for a long time", (_what, hello, reason) => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  const out = bench.answer(2, hello);
  expect(out.filter(({ kind }) => kind === "event")).toMatchObject([
    { event: { name: "peer_refused", isAudited: true, detail: { reason } } },
  ]);
  expect(bench.links.next(2)).toMatchObject({ kind: "goodbye", reason });
  bench.handle({ kind: "closed", link: 2, detail: "" });
  expect(kinds(bench.run(29_000))).toEqual([]);
  expect(kinds(bench.run(62_000))[0]).toBe("open 4");
});

test("the link of a start that is a stranger by now ends, and nobody is accused of it", () => {
  const bench = new Bench("m");
  bench.incoming(1, greetingOf("z"));
  bench.areStrangers = true;
  const out = bench.know(memberOf("z"));
  expect([kinds(out).includes("down 1"), bench.links.next(1)]).toMatchObject([true, { kind: "goodbye", reason: "not_needed" }]);
  const event = { name: "peer_refused", detail: { reason: "not_needed" }, isAudited: false, severity: "debug" };
  expect(out.find(({ kind }) => kind === "event")).toMatchObject({ event });
});

test("the link of a start whose last one is listed elsewhere stays", () => {
  const bench = new Bench("m");
  bench.incoming(1, greetingOf("z"));
  bench.startRefusal = { reason: "duplicate_node", detail: "" };
  bench.know(memberOf("z"));
  expect(bench.upTo("z")?.link).toBe(1);
});

test("somebody else at the address: no link, and whoever was meant is tried again", () => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.answer(2, greetingOf("y"));
  expect(bench.links.next(2)).toMatchObject({ kind: "goodbye", reason: "not_needed" });
  bench.handle({ kind: "closed", link: 2, detail: "" });
  expect(kinds(bench.run(1000))).toContain("open 4");
});

test.each([
  ["no hello in time", (bench: Bench) => bench.run(5000)],
  [
    "a second hello",
    (bench: Bench) => bench.answer(2, greetingOf("z")) && bench.handle({ kind: "hello", link: 2, hello: greetingOf("z") }),
  ],
])("%s ends the link", (_what, act) => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.handle({ kind: "opened", link: 2, isIncoming: false, identity: PROOF });
  expect(kinds(act(bench))).toContain("close 2");
});

test("a failed link is tried again after ever longer waits of 25 ms to 10 s, and soon again once one has held", () => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  const waits: number[] = [];
  let link = 2;
  for (let i = 0; i < 12; i++) {
    const fromMs = bench.nowMs;
    bench.handle({ kind: "closed", link, detail: "refused" });
    while (kinds(bench.run(5)).length === 0) if (bench.nowMs - fromMs > 20_000) throw new Error("not tried");
    waits.push(bench.nowMs - fromMs);
    link += 2;
  }
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(25);
  expect(Math.max(...waits)).toBeLessThanOrEqual(10_005);
  expect(Math.max(...waits.slice(6))).toBeGreaterThan(2000);
  bench.answer(link, greetingOf("z"));
  bench.run(10_000);
  bench.handle({ kind: "closed", link, detail: "reset" });
  expect(kinds(bench.run(260))).toEqual([`open ${link + 2}`]);
});

test.each([
  ["restart", 1000],
  ["duplicate_link", 1000],
  ["leave", 15_000],
  ["too_many_links", 15_000],
  ["wrong_token", 90_000],
] as const)("after the peer's goodbye %s it is tried again within %i ms, if it is still wanted", (reason: Goodbye, withinMs) => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.answer(2, greetingOf("z"));
  expect(kinds(bench.handle({ kind: "goodbye", link: 2, reason, detail: "" })).slice(0, 2)).toEqual(["down 2", "close 2"]);
  bench.handle({ kind: "closed", link: 2, detail: "" });
  expect(kinds(bench.run(withinMs))).toContain("open 4");
});

test("no more links than allowed from outside, room for our own, and a flood of strangers keeps nothing", () => {
  const bench = new Bench("m", { maxIncomingLinks: 4, maxTotalLinks: 6 });
  for (let i = 0; i < 4; i++) bench.incoming(1 + 2 * i, greetingOf(`p${i}`));
  bench.incoming(99, greetingOf("late"));
  expect(bench.links.next(99)).toMatchObject({ kind: "goodbye", reason: "too_many_links" });
  expect(kinds(bench.know(memberOf("z")))).toEqual(["open 2"]);
  for (let i = 0; i < 1000; i++) bench.handle({ kind: "opened", link: 1001 + 2 * i, isIncoming: true, identity: PROOF });
  expect(bench.links.size).toBeLessThanOrEqual(12);
  expect(bench.links.tooManyCount).toBe(1001);
  expect(bench.said.filter(({ kind }) => kind === "event").length).toBeLessThan(20);
});

test("members of other regions, the dead and those who left get no link; one not wanted any more ends later", () => {
  const bench = new Bench("a");
  const out = bench.know(
    memberOf("b", { region: "r2", clusterId: "c9" }),
    memberOf("d", { status: "dead" }),
    memberOf("e", { status: "left" }),
    memberOf("f", { status: "suspect" }),
    memberOf("g", { clusterId: "c2" }),
  );
  expect(out.filter(({ kind }) => kind === "open").length).toBe(2);
  bench.answer(2, greetingOf("f"));
  bench.know(memberOf("f", { status: "dead" }), memberOf("g", { clusterId: "c2" }));
  expect(kinds(bench.run(29_000))).not.toContain("close 2");
  expect(kinds(bench.run(2000))).toContain("close 2");
});

test.each([
  { others: "of its cluster nobody else", g: "c2", isInsisted: true },
  { others: "another of its cluster", g: "c1", isInsisted: false },
])("a member that never answers is tried on and counted where there is $others in reach", ({ g, isInsisted }) => {
  const bench = new Bench("a");
  let tries = 0;
  const failTo = (to: string) => {
    const opening = [...bench.links.rows].filter(({ nodeId, state }) => state === "opening" && nodeId === to);
    tries += opening.length;
    for (const { link } of opening) bench.handle({ kind: "closed", link, detail: "" });
  };
  bench.know(memberOf("b"), memberOf("g", { clusterId: g }));
  const toG = [...bench.links.rows].find(({ nodeId }) => nodeId === "g")?.link ?? 0;
  bench.answer(toG, greetingOf("g", { clusterId: g }));
  for (let second = 0; second < 120; second++) {
    if (second === 60) tries = 0;
    failTo("b");
    bench.run(1000);
  }
  // Waits between tries are ten seconds at most.
  expect(tries >= 5).toBe(isInsisted);
  const wanted = bench.said.filter((output) => output.kind === "wanted").at(-1);
  expect(wanted?.nodeIds).toEqual(isInsisted ? ["g", "b"] : ["g"]);
});

test("a member that moved is looked for at its new address", () => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.answer(2, greetingOf("z", { clusterToken: "x" }));
  bench.handle({ kind: "closed", link: 2, detail: "" });
  const out = bench.know(memberOf("z", { address: "z:2" }));
  expect(out.find(({ kind }) => kind === "open")).toMatchObject({ to: "z:2" });
});

test("after stop nothing is opened or taken", () => {
  const bench = new Bench("m");
  bench.know(memberOf("z"));
  bench.handle({ kind: "closed", link: 2, detail: "" });
  bench.links.stop("restart");
  expect(kinds(bench.run(60_000))).toEqual([]);
  bench.incoming(1, greetingOf("y"));
  expect(bench.links.next(1)).toMatchObject({ kind: "goodbye", reason: "restart" });
});
