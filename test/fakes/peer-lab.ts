/** Nodes with the machine of the operators' records, on a store that they share, in virtual time. */
import { Campaigns } from "../../src/control/leadership/campaigns.ts";
import type { OrderRefusal } from "../../src/control/leadership/io-types.ts";
import { type PeerOrder, Peers } from "../../src/control/peers/peers.ts";
import { Shards } from "../../src/control/shards/shards.ts";
import { LabNode, LEASE_MS, LeaderLab } from "./leader-lab.ts";

export class PeerLab extends LeaderLab {
  peerNode(nodeId: string, isOwnStore = false): PeerNode {
    return this.add(new PeerNode(this, nodeId, isOwnStore), ["global-control"]);
  }
}

export class PeerNode extends LabNode {
  readonly peers: Peers;
  #orders = 0;

  constructor(lab: PeerLab, nodeId: string, isOwnStore: boolean) {
    let made: Peers | undefined;
    super(lab, nodeId, { isOwnStore }, (machine) => {
      const campaigns = new Campaigns({ machine, leaseMs: LEASE_MS });
      const newId = () => nodeId;
      const shards = new Shards({ machine, campaigns, nodeId, leaseMs: LEASE_MS, isOwnStore, newId, historyCount: 100 });
      made = new Peers({ machine, isOwnStore, shards });
      return made;
    });
    if (made === undefined) throw new Error("the node has no machine");
    this.peers = made;
  }

  /** Makes a change. Returns why it was refused. */
  change(nodeId: string, change: PeerOrder["change"], terms: Partial<PeerOrder> = {}): OrderRefusal | undefined {
    const common = { actor: "ann", reason: "new disks", ticket: "", expectedVersion: undefined, requestId: "", isDryRun: false };
    this.input({ kind: "changePeer", order: ++this.#orders, change: { ...common, nodeId, change, ...terms } });
    return this.refusals.at(-1);
  }
}
