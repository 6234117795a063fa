/** Calls of strangers are refused, told to the audit a few times, and always counted. */
import { expect, test } from "vitest";
import { CallGuard } from "../../src/fabric/call-guard.ts";
import type { PeerProof } from "../../src/fabric/messages.ts";
import type { FabricOutput } from "../../src/fabric/seam.ts";

const REQUEST = { kind: "probe", from: { nodeId: "b", generation: 1 }, targetNodeId: "a", updates: [] } as const;

function proof(port: number, clusterToken: string): PeerProof {
  return { address: `127.0.0.1:${port}`, isLoopback: true, certificate: undefined, clusterToken };
}

test("who shows the token may ask; others are refused, six times a minute and address for the audit", () => {
  const guard = new CallGuard({ nodeId: "a", clusterId: "c1", region: "r1", clusterToken: "secret", isInsecure: false });
  const out: FabricOutput[] = [];
  const time = { monoMs: 0, wallMs: 0 };
  expect(guard.admits(REQUEST, proof(1, "secret"), time, out)).toBe(true);
  for (let port = 1; port <= 100; port++) expect(guard.admits(REQUEST, proof(port, "guess"), time, out)).toBe(false);
  expect([guard.refusedCount, out.length]).toEqual([100, 6]);
  expect(out[0]).toMatchObject({
    kind: "event",
    event: { name: "call_refused", isAudited: true, detail: { nodeId: "b", reason: "wrong_token" } },
  });
});
