/** Whose turn it is on a link: a large policy and what is new do not hold each other up. */
import { expect, test } from "vitest";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { Multiplexer } from "../../src/fabric/links/multiplexer.ts";
import { PolicyExchange } from "../../src/fabric/policy-sync.ts";
import { channelsOf, greetingOf } from "../fakes/fabric-world.ts";
import { version } from "../fakes/policy-versions.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

const AT = { monoMs: 0, wallMs: 1_700_000_000_000 };
const WHOLE = { kind: "vector", entries: [], digest: 0n, isPartial: false, isWanted: false } as const;

test("records go out between the parts of a policy, and the policy between records", () => {
  const large = version(1, "a", 20);
  const policy = new PolicyExchange({ maxBytes: 1 << 20, partBytes: Math.ceil(large.bytes.length / 6), timeoutMs: 10_000, maxStrikes: 3 });
  const node = new ReplicatingNode({ nodeId: "a", options: { maxFrameBytes: 1 } });
  for (let n = 0; n < 6; n++) node.put(`x${n}`, 0);
  const multiplexer = new Multiplexer(channelsOf(node.shared, policy));
  const out: FabricOutput[] = [];
  policy.headChanged(large.head);
  multiplexer.open(1, { hello: greetingOf("b"), relation: "cluster", greetedMonoMs: 0 }, AT, out);
  const drain = (): readonly string[] => {
    const kinds: string[] = [];
    for (let frame = multiplexer.next(1, AT); frame !== undefined; frame = multiplexer.next(1, AT)) kinds.push(frame.kind);
    return kinds;
  };
  drain();
  multiplexer.receive(1, WHOLE, AT, out);
  // A peer without the policy gets no records until it has refused the policy.
  multiplexer.receive(1, { kind: "policySettled", head: large.head }, AT, out);
  multiplexer.receive(1, { kind: "policyWanted", number: 1 }, AT, out);
  policy.read(1, large.bytes);
  const kinds = drain().filter((kind) => kind === "records" || kind === "policyPart");
  expect(kinds.toSorted()).toEqual([...Array<string>(6).fill("policyPart"), ...Array<string>(6).fill("records")]);
  // Turn by turn: never two of a kind while the other waits.
  expect(kinds.slice(0, 10).some((kind, i) => i > 0 && kind === kinds[i - 1])).toBe(false);
});
