/**
 * PeerService over a table of members that change, behind the listeners of a node: `_members-child.ts MEMBERS CHANGES_PER_SECOND`. It prints where it
 * listens. The nodes themselves are absent, because a thousand of them would take more memory than the machine has. The table makes its rows as a node
 * makes them from its fabric, and the last sign of life of all members is always now.
 */

import { tick } from "../src/node/starting.io.ts";
import type { MemberRow } from "../src/services/peers/members.ts";
import { peerService } from "../src/services/peers/peers.ts";
import { demoMethods } from "../test/fakes/demo-service.ts";
import { startDemoEdge } from "../test/fakes/edge.ts";
import { serve } from "../test/fakes/grpc-room.ts";
import { NO_OPERATIONS } from "../test/fakes/peer-operations.ts";
import { FakeMembers, memberRow } from "../test/fakes/watched-members.ts";

const [members = 0, perSecond = 0] = process.argv.slice(2).map(Number);
const CHANGE_MS = 10;
const MAX_WATCHES = 1000;

class ChangingMembers extends FakeMembers {
  #changes = 0;

  override members = () => [...this.rows.values()].map((row) => this.#now(row));
  override member = (nodeId: string) => {
    const row = this.rows.get(nodeId);
    return row && this.#now(row);
  };

  /** The version of a member says when it changed. */
  change(): void {
    const nodeId = `node-${(this.#changes++ * 7919) % members}`;
    const row = this.rows.get(nodeId);
    if (row !== undefined) this.put({ ...row, incarnation: row.incarnation + 1, version: String(Date.now()) });
  }

  #now(row: MemberRow): MemberRow {
    return { ...row, lastSeenWallMs: Date.now(), rttMs: 0.1 + Math.random() };
  }
}

const zones = ["a", "b", "c"];
const rows = Array.from({ length: members }, (_, i) =>
  memberRow(`node-${i}`, {
    zone: zones[i % zones.length] ?? "",
    address: `10.0.${i >> 8}.${i % 256}:17421`,
    labels: { rack: `${i % 40}` },
  }),
);
const source = new ChangingMembers(...rows);
const service = peerService({
  ...NO_OPERATIONS,
  source,
  identity: { nodeId: "node-0", clusterId: rows[0]?.clusterId ?? "", region: "r1", boot: "b1" },
  clusterKeys: () => [],
  checkCaughtUp: () => {},
  maxWatches: MAX_WATCHES,
  tick,
});
const { edge } = await startDemoEdge({ listener: { services: [service] } });
const { port } = await serve({ methods: demoMethods([service]) });
const begunMs = performance.now();
let changed = 0;
setInterval(() => {
  for (; changed < ((performance.now() - begunMs) * perSecond) / 1000; changed++) source.change();
}, CHANGE_MS);
console.log(JSON.stringify({ http: edge.acceptor.port, grpc: port } satisfies Record<string, number>));
