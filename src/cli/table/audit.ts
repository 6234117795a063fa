/** The rows of the VERBS table for the audit log and reports. */

import { NEWEST_FLAGS } from "./policy.ts";
import type { FlagSpec, VerbSpec } from "./verb.ts";

const PRINCIPAL: FlagSpec = { flags: "--principal <name>", doc: "Only operations by this principal." };
const ACCESS: readonly FlagSpec[] = [
  { flags: "--namespace <namespace>", doc: "Only operations on exactly this namespace." },
  { flags: "--reason <reason>", doc: "Only records with this reason (column REASON), such as viewer_denied or rate_limited." },
];
const TIMES: readonly FlagSpec[] = [
  { flags: "--since <when>", doc: "Start: a time such as 2026-01-31T12:00:00Z, or a duration before now such as 1h." },
  { flags: "--until <when>", doc: "End (exclusive), in the same form as --since." },
];
/** The filter of `audit list` and `audit watch`. The global flag `--tenant` is also part of it. */
const SEARCH: readonly FlagSpec[] = [
  { flags: "--entry <key>", doc: "Only operations on this entry, written namespace/name/instance." },
  { flags: "--lease <id>", doc: "Only operations on this lease." },
  { flags: "--node <id>", doc: "Only operations on this node." },
  PRINCIPAL,
  { flags: "--action <action>", doc: "Only this operation (column ACTION), such as register or policy.apply." },
  { flags: "--outcome <outcome>", doc: "Only records with this outcome.", choices: ["allowed", "denied", "noted"] },
  ...ACCESS,
  { flags: "--ticket <id>", doc: "Only operations with this change ticket." },
  { flags: "--text <text>", doc: "Only records that contain this text in any column or subject, in upper or lower case." },
  {
    flags: "--kind <kind>",
    doc: "Only records of this kind. access: reads and writes; policy: rule changes; admin: events of nodes.",
    choices: ["access", "policy", "admin"],
  },
];
const ALL_NODES: FlagSpec = { flags: "--all-nodes", doc: "Ask each node of the server's cluster, at its own address." };

const audit = () => import("../verbs/audit.ts");

export const AUDIT_VERBS: readonly VerbSpec[] = [
  {
    path: "namespace policy audit",
    summary: "List the changes of policy rules, newest first.",
    flags: [PRINCIPAL, ...TIMES, ...NEWEST_FLAGS],
    examples: [["namespace policy audit --since 7d", "list the changes of the last week"]],
    load: async () => (await audit()).policyAudit,
  },
  {
    path: "discovery access-audit",
    summary: "List reads and writes, and the requests that were refused, newest first.",
    flags: [PRINCIPAL, ...ACCESS, ...TIMES, ...NEWEST_FLAGS],
    examples: [
      ["discovery access-audit --namespace svc.market --reason viewer_denied", "list the callers that were not allowed to see svc.market"],
      ["discovery access-audit --principal team-a --since 1h -o json", "list what team-a did in the last hour"],
    ],
    load: async () => (await audit()).accessAudit,
  },
  {
    path: "audit list",
    summary: "List the audit log of the server, newest first.",
    flags: [...SEARCH, ...TIMES, ALL_NODES, { flags: "--limit <count>", doc: "Maximum number of records, newest first (default 100)." }],
    examples: [
      ["audit list --since 24h --kind policy", "list the rule changes of the last day"],
      ["audit list --entry svc.market/web/web-1 --all-nodes", "list who changed this entry, on which node, when and from where"],
      ["audit list --tenant blue --outcome denied", "list the refused operations of the callers of a tenant"],
    ],
    load: async () => (await audit()).list,
  },
  {
    path: "audit watch",
    summary: "Follow the audit log of the server: print each record as it is written.",
    flags: [
      ...SEARCH,
      { flags: "--since <when>", doc: "Start at this time, or this long before now (default now)." },
      { flags: "--until <when>", doc: "Only records before this time, in the same form as --since." },
      ALL_NODES,
      { flags: "--count <count>", doc: "Stop after this many records." },
    ],
    examples: [
      ["audit watch --outcome denied --all-nodes", "print refusals by all nodes as they happen"],
      ["audit watch --since 1h -o json >> audit.jsonl", "append one JSON object per line to a file"],
    ],
    load: async () => (await audit()).watch,
  },
  {
    path: "audit verify",
    summary: "Verify the hash chain of the server's audit log, or of a JSON Lines copy of it.",
    args: [{ name: "[file]", doc: "JSON Lines file; - reads standard input. Without a file, the server verifies its own log." }],
    flags: [
      {
        flags: "--known <number:hash>",
        doc: "Also require that the log contains this record, given as the last_number and last_hash that an earlier verification printed.",
      },
    ],
    examples: [
      ["audit verify", "exit with code 0 if no record was altered, removed or moved"],
      ["audit verify --known 4711:9f86d0…", "also verify that the log was not rewritten since an earlier verification"],
      ["audit verify audit.jsonl", "verify a copy of the log without a server"],
    ],
    load: async () => (await audit()).verify,
  },
  {
    path: "report export-lag",
    summary: "Show, for each border, the summaries from this node that other regions have not received yet.",
    examples: [
      ["report export-lag", "show one line per border, and whether the cluster exports summaries"],
      ["report export-lag -o json", "print the same as JSON"],
    ],
    load: async () => (await import("../verbs/summary-lag.ts")).exportLag,
  },
  {
    path: "report namespace-health",
    summary:
      "Show, for each namespace, services and entries by health, exported summaries, withheld summaries with the reason, and stale sources.",
    flags: [
      { flags: "--namespace <namespace>", doc: "Only this namespace." },
      { flags: "--prefix <namespace>", doc: "Only this namespace and all namespaces below it." },
      { flags: "--unhealthy", doc: "Only namespaces with unhealthy entries." },
    ],
    examples: [
      ["report namespace-health", "print one line per namespace"],
      ["report namespace-health --prefix svc --unhealthy -o json", "print the namespaces below svc that need attention, as JSON"],
    ],
    load: async () => (await import("../verbs/report.ts")).namespaceHealth,
  },
];
