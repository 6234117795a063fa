/** A policy keeper over a memory store, whose audit remembers what was recorded and what of it was on disk. */
import type { AuditEvent } from "../../src/policy/audit.ts";
import { PolicyEngine } from "../../src/policy/engine.ts";
import type { PolicySet } from "../../src/policy/rules.ts";
import { KeptPolicyFile } from "../../src/services/kept-policy-file.ts";
import { PolicyKeeper } from "../../src/services/policy-keeper.ts";
import type { Store } from "../../src/store/store.ts";

export const ANN = { principal: "ann", tenant: "ops", address: "192.0.2.1", owns: undefined, mayRead: true };
export const TERMS = { expectedNumber: 0, stage: undefined, reason: "", changeTicket: "" };

export class Bench {
  readonly engine: PolicyEngine;
  wallMs = 5000;
  readonly events: AuditEvent[] = [];
  durableCount = 0;
  changeCount = 0;
  /** The policy changes that were on their way are through. */
  heard = Promise.resolve();
  /** Every door shows what is in force. */
  shown = Promise.resolve();
  readonly keeper: PolicyKeeper;
  readonly file: KeptPolicyFile;

  constructor(store: Store, node: { readonly nodeId: string; readonly clusterId: string } = { nodeId: "n1", clusterId: "eu-1" }) {
    this.engine = new PolicyEngine({ ...node, maxVersions: 3, maxBytes: 1e6 });
    this.keeper = new PolicyKeeper({
      engine: this.engine,
      store,
      audit: {
        record: (event) => void this.events.push(event),
        durable: () => {
          this.durableCount = this.events.length;
          return Promise.resolve();
        },
      },
      catalog: {
        namespaces: () => ["svc.a"],
        count: () => 2,
        examples: () => [],
        viewers: () => [{ clusterId: "eu-1", tenant: "blue" }],
        entries: () => [],
      },
      self: { clusterId: "eu-1", region: "eu" },
      knownPlaces: () => new Set(["eu-1", "eu"]),
      now: () => ({ monoMs: 0, wallMs: this.wallMs }),
      pause: () => Promise.resolve(),
      heard: () => this.heard,
      onChange: () => {
        this.changeCount += 1;
        return this.shown;
      },
    });
    this.file = new KeptPolicyFile({ keeper: this.keeper, store, onChange: () => Promise.resolve() });
  }

  apply(one: PolicySet, terms: Partial<typeof TERMS> = {}, isDryRun = false) {
    return this.keeper.apply(ANN, { set: one, problems: [], terms: { ...TERMS, ...terms }, isDryRun });
  }
}
