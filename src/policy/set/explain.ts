/** What `Explain` asks, answered by the verdicts that every listener asks (P11). */
import type { Scope } from "../../catalog/entry/scope.ts";
import type { Policy, PolicyAction, Source, Verdict } from "./verdict.ts";

export interface Question {
  readonly action: PolicyAction;
  readonly namespace: string;
  /** Cluster and tenant whose view a read uses; the cluster is the source of everything else. */
  readonly clusterId: string;
  readonly tenant: string;
  /** Region of the cluster as a source; empty when it is not known. */
  readonly region: string;
  /** Of the summary that would leave. */
  readonly scope: Scope;
  readonly wallMs: number;
}

export function explain(policy: Policy, question: Question): Verdict {
  const { action, namespace, clusterId, tenant, region, scope, wallMs } = question;
  const source: Source = { clusterId, region };
  switch (action) {
    case "query":
    case "watch":
      return policy.viewer(namespace, { clusterId, tenant });
    case "register":
    case "ingest":
    case "admin":
      return policy.source(namespace, source);
    case "export-summary":
      return policy.exportSummary(namespace, source, { scope, wallMs });
  }
}
