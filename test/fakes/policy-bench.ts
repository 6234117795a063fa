/** A policy keeper over a memory store, whose audit remembers what was recorded and what of it was on disk. */
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import type { PolicySet } from "../../src/policy/set/rules.ts";
import { PolicyEngine } from "../../src/policy/versions/engine.ts";
import { KeptPolicyFile } from "../../src/services/policy-file.ts";
import { PolicyStore } from "../../src/services/policy-store.ts";
import type { Store } from "../../src/store/control/store.ts";

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
  /** Every listener shows what is in force. */
  shown = Promise.resolve();
  readonly policyStore: PolicyStore;
  readonly file: KeptPolicyFile;

  constructor(store: Store, node: { readonly nodeId: string; readonly clusterId: string } = { nodeId: "n1", clusterId: "eu-1" }) {
    this.engine = new PolicyEngine({ ...node, maxVersions: 3, maxBytes: 1e6 });
    this.policyStore = new PolicyStore({
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
    this.file = new KeptPolicyFile({ policyStore: this.policyStore, store, onChange: () => Promise.resolve() });
  }

  apply(one: PolicySet, terms: Partial<typeof TERMS> = {}, isDryRun = false) {
    return this.policyStore.apply(ANN, { set: one, problems: [], terms: { ...TERMS, ...terms }, isDryRun });
  }
}
