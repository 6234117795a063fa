/** Which version of the policy is fetched and given, from whom, and how often; `policy-sync.test.ts` has what comes of it. */
import { expect, test } from "vitest";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { PolicyExchange } from "../../src/fabric/policy-sync.ts";
import type { PolicyHead } from "../../src/fabric/wire/messages.ts";
import { NO_PLACE } from "../../src/policy/versions/version.ts";
import { POLICY_OPTIONS } from "../fakes/options.ts";
import { type Version, version } from "../fakes/policy-versions.ts";

const at = (ms: number) => ({ monoMs: ms, wallMs: 1_700_000_000_000 + ms });

class Bench {
  readonly exchange = new PolicyExchange(POLICY_OPTIONS);
  readonly out: FabricOutput[] = [];

  hear(link: number, head: PolicyHead): void {
    this.exchange.receive(link, { kind: "policyHead", head }, at(0), this.out);
  }

  /** All that it has to say on a link. */
  said(link: number): readonly string[] {
    const kinds: string[] = [];
    for (let frame = this.exchange.next(link, at(0)); frame !== undefined; frame = this.exchange.next(link, at(0))) kinds.push(frame.kind);
    return kinds;
  }

  give(link: number, { head, bytes }: Version): void {
    this.exchange.receive(link, { kind: "policyPart", head, part: bytes, offset: 0, sizeBytes: bytes.length }, at(0), this.out);
  }

  get adopted(): number {
    return this.out.filter(({ kind }) => kind === "adoptPolicy").length;
  }
}

/** It has fetched a version of link 1 and hands it over; link 2 is open, too. */
function adopting(one: Version): Bench {
  const bench = new Bench();
  for (const link of [1, 2]) bench.exchange.opened(link);
  bench.hear(1, one.head);
  bench.said(1);
  bench.said(2);
  bench.give(1, one);
  expect(bench.adopted).toBe(1);
  return bench;
}

test("while a version is being put in force, nothing is settled with those that have none either", () => {
  const newest = version(3);
  const bench = adopting(newest);
  bench.hear(2, NO_PLACE);
  expect(bench.exchange.isSettledWith(2)).toBe(false);
  bench.exchange.headChanged(newest.head);
  expect(bench.exchange.isSettledWith(2)).toBe(true);
});

test("a version that is being put in force is not fetched again when an older one comes in force before it, or another is refused", () => {
  const bench = adopting(version(5));
  bench.exchange.headChanged(version(3).head);
  expect(bench.said(1)).toEqual(["policyHead"]);
  bench.exchange.refused(version(4).head, "older", bench.out);
  expect(bench.said(1)).toEqual([]);
});

test("bytes of a version that is the newest no more when they are read are not sent under the head of the one that is", () => {
  const bench = new Bench();
  const [old, newest] = [version(3), version(4)];
  bench.exchange.headChanged(old.head);
  bench.exchange.opened(1);
  expect(bench.said(1)).toEqual(["policyHead"]);
  bench.exchange.receive(1, { kind: "policyWanted", number: 3 }, at(0), bench.out);
  bench.exchange.headChanged(newest.head);
  bench.exchange.read(3, old.bytes);
  expect(bench.said(1)).toEqual(["policyHead"]);
});

test("who asks for a version whose bytes cannot be read hears the head again, and so need not wait for its time to be over", () => {
  const bench = new Bench();
  bench.exchange.headChanged(version(3).head);
  bench.exchange.opened(1);
  bench.said(1);
  bench.exchange.receive(1, { kind: "policyWanted", number: 3 }, at(0), bench.out);
  bench.exchange.read(3, undefined);
  expect(bench.said(1)).toEqual(["policyHead"]);
});

test("a standstill of this node does not count against what it waits for: a version that it asked for, or that is being put in force", () => {
  const asked = new Bench();
  asked.exchange.opened(1);
  asked.hear(1, version(3).head);
  asked.said(1);
  for (const { exchange, out } of [asked, adopting(version(3))]) {
    out.length = 0;
    exchange.postpone(60_000);
    exchange.look(at(POLICY_OPTIONS.timeoutMs), out);
    exchange.look(at(POLICY_OPTIONS.timeoutMs + 59_999), out);
    expect(out).toEqual([]);
    exchange.look(at(POLICY_OPTIONS.timeoutMs + 60_000), out);
    expect(out.map(({ kind }) => kind)).toEqual(["event"]);
  }
});

test("who tells of a newer version and does not give it in time keeps out no older one that another has", () => {
  const bench = new Bench();
  for (const link of [1, 2]) bench.exchange.opened(link);
  bench.hear(2, version(9).head);
  expect(bench.said(2)).toEqual(["policyHead", "policyWanted"]);
  bench.hear(1, version(3).head);
  bench.exchange.look(at(POLICY_OPTIONS.timeoutMs), bench.out);
  expect([bench.said(2), bench.said(1)]).toEqual([[], ["policyHead", "policyWanted"]]);
});

test("who missed once and then gave is asked before one that missed since", () => {
  const bench = new Bench();
  const [three, four] = [version(3), version(4)];
  for (const link of [1, 2]) bench.exchange.opened(link);
  for (const link of [1, 2]) bench.said(link);
  bench.hear(1, three.head);
  expect(bench.said(1)).toEqual(["policyWanted"]);
  bench.exchange.look(at(60_000), bench.out);
  expect(bench.said(1)).toEqual(["policyWanted"]);
  bench.give(1, three);
  // Both offer the next one while that is put in force: the first that did is asked, as it failed no more than the other.
  bench.hear(1, four.head);
  bench.hear(2, four.head);
  bench.exchange.headChanged(three.head);
  expect([bench.said(1), bench.said(2)]).toEqual([["policyHead", "policyWanted"], ["policyHead"]]);
});

test("a peer whose version was no good is no reason to wait any longer: nothing is to be had from it", () => {
  const bench = new Bench();
  const newest = version(3);
  bench.exchange.opened(1);
  bench.hear(1, newest.head);
  bench.said(1);
  expect(bench.exchange.isSettledWith(1)).toBe(false);
  bench.give(1, { head: newest.head, bytes: version(3, "z").bytes });
  expect(bench.exchange.refusedCount).toBe(1);
  expect(bench.exchange.isSettledWith(1)).toBe(true);
});
