/** Operations on nodes, with a control store and an audit log that a test lets answer. */
import { create, type DescMessage } from "@bufbuild/protobuf";
import {
  type BlastRadius,
  PeerServiceCordonRequestSchema,
  PeerServiceDrainRequestSchema,
  PeerServiceForgetRequestSchema,
  PeerServiceSetLabelsRequestSchema,
  PeerServiceUncordonRequestSchema,
} from "../../gen/waymark/control/v1/peer_pb.js";
import type { PeerOrder } from "../../src/control/peers/peers.ts";
import type { PeerRecord } from "../../src/control/peers/records.ts";
import { type ErrorReason, WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { type NodeContents, type PeerOperation, peerOperations } from "../../src/services/peers/operations.ts";
import { memberRow } from "./watched-members.ts";

const REQUESTS = {
  cordon: PeerServiceCordonRequestSchema,
  uncordon: PeerServiceUncordonRequestSchema,
  drain: PeerServiceDrainRequestSchema,
  setLabels: PeerServiceSetLabelsRequestSchema,
  forget: PeerServiceForgetRequestSchema,
} as const satisfies Record<string, DescMessage>;
export type PeerVerb = keyof typeof REQUESTS;
export const PEER_VERBS = Object.keys(REQUESTS) as readonly PeerVerb[];

/** The answer of an operation, or the reason of its refusal. */
export interface PeerAnswer {
  readonly radius?: BlastRadius | undefined;
  readonly error?: WaymarkError;
}

/** A cluster in which `n2` is alive and `n9` is dead, seen by `n1`. */
export class OperatedPeers {
  readonly rows = new Map(
    [memberRow("n1", { isSelf: true, isServing: true }), memberRow("n2", { isServing: true }), memberRow("n9", { status: "dead" })].map(
      (row) => [row.nodeId, row],
    ),
  );
  readonly records = new Map<string, PeerRecord>();
  readonly contents: { readonly [Key in keyof NodeContents]: NodeContents[Key] } & { principals: Map<string, number> };
  isOwnStore = false;
  isCaughtUp = true;
  /** The reason for which the control store refuses changes. Empty if it makes them. */
  refusal: ErrorReason | "" = "";
  /** Whether the disk of the audit log is full. */
  isDiskFull = false;
  readonly orders: PeerOrder[] = [];
  /** The audit records that are on disk. */
  readonly onDisk: PeerOperation[] = [];
  readonly #unwritten: PeerOperation[] = [];
  readonly #waiting: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  readonly #handlers: ReturnType<typeof peerOperations>;

  constructor() {
    this.contents = { leasedCount: 2, staticCount: 1, principals: new Map([["ann", 3]]), leaderships: ["custom/a"], shards: ["orders/4"] };
    const { rows, records, orders } = this;
    const isOwnStore = () => this.isOwnStore;
    this.#handlers = peerOperations({
      control: {
        get isOwnStore() {
          return isOwnStore();
        },
        record: (nodeId) => {
          const value = records.get(nodeId);
          return value && { version: 1, value, sinceMs: 0 };
        },
        changePeer: async (order) => {
          orders.push(order);
          await Promise.resolve();
          if (this.refusal !== "") throw new WaymarkError(this.refusal, "the store refuses it");
        },
        followPeers: () => () => {},
      },
      source: { members: () => [...rows.values()], member: (nodeId) => rows.get(nodeId) },
      identity: { nodeId: "n1", clusterId: "c1", region: "r1" },
      contentsOf: () => this.contents,
      urlsOf: (nodeId) => (nodeId === "n2" ? ["grpc://n2:1", "http://n2:2"] : []),
      onOperation: (_, operation) => void this.#unwritten.push(operation),
      audited: () => new Promise((resolve, reject) => void this.#waiting.push({ resolve, reject })),
      checkCaughtUp: () => {
        if (!this.isCaughtUp) throw new WaymarkError("not_ready", "the node has not caught up");
      },
    });
  }

  /** Writes the audit records to the disk, or fails to. */
  write(): void {
    const records = this.#unwritten.splice(0);
    if (!this.isDiskFull) this.onDisk.push(...records);
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (this.isDiskFull) reject(new Error("the disk is full"));
      else resolve();
    }
  }

  async call(verb: PeerVerb, request: Readonly<Record<string, unknown>>, roles: readonly string[] = ["mesh.operate"]): Promise<PeerAnswer> {
    const caller = { ...anonymousCaller("c1", "127.0.0.1", roles), principal: "ann", isAuthenticated: true };
    const context = { caller, time: { monoMs: 0, wallMs: 0 }, requestId: "call-1" };
    const message = create(REQUESTS[verb] as DescMessage, request as never);
    try {
      const answer = (await this.#handlers[verb].handle(message as never, context)) as Pick<PeerAnswer, "radius">;
      return { radius: answer.radius };
    } catch (error) {
      if (error instanceof WaymarkError) return { error };
      throw error;
    }
  }

  /** As `call`, with an audit log that answers. */
  async answered(...call: Parameters<OperatedPeers["call"]>): Promise<PeerAnswer> {
    const answer = this.call(...call);
    await settled();
    this.write();
    return answer;
  }
}

/** Lets all promises go on that can. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 50; i++) await Promise.resolve();
}
