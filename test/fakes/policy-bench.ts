/** A policy store over a memory store, whose audit remembers what was recorded and what of it was on disk. */
import type { AuditEvent } from "../../src/policy/audit/record.ts";
import { TaskRunner } from "../../src/policy/run-tasks.io.ts";
import type { PolicySet } from "../../src/policy/set/rules.ts";
import type { PolicyTask } from "../../src/policy/task.ts";
import { PolicyEngine } from "../../src/policy/versions/engine.ts";
import { PolicyFile } from "../../src/policy/versions/policy-file.ts";
import { PolicyStore } from "../../src/policy/versions/policy-store.ts";
import type { VersionPlace } from "../../src/policy/versions/version.ts";
import type { ControlStore } from "../../src/store/control/store.ts";
import { channels } from "./policies.ts";

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
  /** Is told what is newest here. */
  onHead: (head: VersionPlace) => void = () => {};
  /** Puts a version into the store that nodes share. */
  publish: (bytes: Uint8Array) => Promise<boolean> | undefined = () => undefined;
  readonly policyStore: PolicyStore;
  readonly file: PolicyFile;
  readonly tasks: TaskRunner;

  constructor(store: ControlStore, node: { readonly nodeId: string; readonly clusterId: string } = { nodeId: "n1", clusterId: "eu-1" }) {
    this.engine = new PolicyEngine({ ...node, maxVersions: 3, maxBytes: 1e6 });
    this.policyStore = new PolicyStore({
      engine: this.engine,
      audit: (event) => void this.events.push(event),
      catalog: {
        namespaces: () => ["svc.a"],
        count: () => 2,
        examples: () => [],
        viewers: () => [{ clusterId: "eu-1", tenant: "blue" }],
        channels,
        entries: () => [],
      },
      self: { clusterId: "eu-1", region: "eu" },
      knownPlaces: () => new Set(["eu-1", "eu"]),
      onHead: (head) => this.onHead(head),
    });
    this.tasks = new TaskRunner({
      store,
      publish: (bytes) => this.publish(bytes),
      now: () => ({ monoMs: 0, wallMs: this.wallMs }),
      pause: () => Promise.resolve(),
      audited: () => {
        this.durableCount = this.events.length;
        return Promise.resolve();
      },
      heard: () => this.heard,
      shown: () => {
        this.changeCount += 1;
        return this.shown;
      },
    });
    this.file = new PolicyFile(this.policyStore);
  }

  run<T>(task: PolicyTask<T>): Promise<T> {
    return this.tasks.run(task);
  }

  /** Puts in force what the store has. */
  restore(): Promise<void> {
    return this.run(this.policyStore.restore());
  }

  apply(one: PolicySet, terms: Partial<typeof TERMS> = {}, isDryRun = false) {
    return this.run(this.policyStore.apply(ANN, { set: one, terms: { ...TERMS, ...terms }, isDryRun }));
  }
}
