/** Calls of strangers are refused, told to the audit a few times, and always counted. */
import { expect, test } from "vitest";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import { CallGuard } from "../../../src/fabric/links/call-guard.ts";
import { ForeignPeers } from "../../../src/fabric/links/foreign-peers.ts";
import type { FabricCallRequest, FabricCallResponse, PeerIdentity } from "../../../src/fabric/wire/messages.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";

const HERE = { clusterId: "c1", region: "eu" };

function guardOf(clusterToken: string): CallGuard {
  const foreignPeers = new ForeignPeers(HERE, { mode: "explicit", clusters: ["c2"], hasCertificates: false }, () => false);
  return new CallGuard({ nodeId: "a", ...HERE, clusterToken, isInsecure: false, foreignPeers });
}

const REQUEST = { kind: "probe", from: nodeRef("b"), targetNodeId: "a", updates: [] } as const;

function identity(port: number, clusterToken: string): PeerIdentity {
  return { address: `127.0.0.1:${port}`, isLoopback: true, certificate: undefined, clusterToken };
}

test("who shows the token may ask; others are refused, six times a minute and address for the audit", () => {
  const guard = guardOf("secret");
  const out: FabricOutput[] = [];
  const time = { monoMs: 0, wallMs: 0 };
  expect(guard.admits({ kind: "asked", call: 1, request: REQUEST, identity: identity(1, "secret") }, time, out)).toBe(true);
  for (let port = 1; port <= 100; port++)
    expect(guard.admits({ kind: "asked", call: port, request: REQUEST, identity: identity(port, "guess") }, time, out)).toBe(false);
  const [told, answers] = [out.filter(({ kind }) => kind === "event"), out.filter(({ kind }) => kind === "answer")];
  expect([guard.refusedCount, told.length, answers.length]).toEqual([100, 6, 100]);
  // A stranger is not told why.
  expect(answers[0]).toEqual({ kind: "answer", call: 1, response: undefined });
  expect(told[0]).toMatchObject({
    kind: "event",
    event: { name: "call_refused", isAudited: true, detail: { nodeId: "b", reason: "wrong_token" } },
  });
});

const PUSH_PULL = { kind: "pushPull", from: nodeRef("z"), isJoin: false, members: [] } as const;
const FROM_C9 = { nodeId: "z", generation: 1, clusterId: "c9", region: "eu" };
const THIEF = { address: "127.0.0.1:1", isLoopback: true, certificate: { nodeId: "z", clusterId: "c9" }, clusterToken: "" };

test.each<{ what: string; request: FabricCallRequest; certificate?: PeerIdentity; want: string | undefined }>([
  { what: "of a listed cluster", request: { ...REQUEST, from: { ...FROM_C9, clusterId: "c2" } }, want: undefined },
  { what: "of another cluster", request: { ...REQUEST, from: FROM_C9 }, want: "wrong_cluster" },
  { what: "of another region", request: { ...REQUEST, from: { ...FROM_C9, clusterId: "c2", region: "r2" } }, want: "other_region" },
  {
    what: "of another cluster by its certificate too",
    request: { ...PUSH_PULL, from: FROM_C9 },
    certificate: THIEF,
    want: "wrong_cluster",
  },
  {
    what: "that claims our cluster beside its certificate",
    request: { ...PUSH_PULL, from: { ...FROM_C9, clusterId: "c1" } },
    certificate: THIEF,
    want: "wrong_identity",
  },
  {
    what: "that does not say where it is",
    request: { ...PUSH_PULL, from: { ...FROM_C9, clusterId: "", region: "" } },
    want: "other_region",
  },
])("a call of a node $what: $want", ({ request, certificate, want }) => {
  const out: FabricOutput[] = [];
  const asked = { kind: "asked", call: 1, request, identity: certificate ?? identity(1, "") } as const;
  expect(guardOf("").admits(asked, { monoMs: 0, wallMs: 0 }, out)).toBe(want === undefined);
  expect(out.flatMap((each) => (each.kind === "event" ? [each.event.detail["reason"]] : []))).toEqual(want === undefined ? [] : [want]);
  if (want === "wrong_cluster")
    expect(out).toContainEqual({
      kind: "answer",
      call: 1,
      response: undefined,
      why: expect.stringContaining('fabric.clusters = ["c2","c9"]') as string,
    });
});

test("a node of a foreign place is not heard when it answers", () => {
  const heard = (response: FabricCallResponse) =>
    guardOf("").filterAnswer({ kind: "answered", call: 1, response }, { monoMs: 0, wallMs: 0 }, []);
  const answer: FabricCallResponse = { kind: "probe", from: nodeRef("z"), updates: [] };
  expect(heard(answer).response).toBe(answer);
  expect(heard({ ...answer, from: FROM_C9 })).toMatchObject({ response: undefined, refusal: expect.stringContaining("c9") as string });
});
