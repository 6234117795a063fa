/** The rows of the VERBS table about the audit log and reports. */

import { NEWEST_FLAGS } from "./policy.ts";
import type { FlagSpec, VerbSpec } from "./verb.ts";

const PRINCIPAL: FlagSpec = { flags: "--principal <name>", doc: "Only acts of this principal." };
const ACCESS: readonly FlagSpec[] = [
  { flags: "--namespace <namespace>", doc: "Only acts on exactly this namespace." },
  { flags: "--reason <reason>", doc: "Only this outcome, such as viewer_denied or rate_limited." },
];
const TIMES: readonly FlagSpec[] = [
  { flags: "--since <when>", doc: "From this time on: 2026-01-31T12:00:00Z, or a duration before now such as 1h." },
  { flags: "--until <when>", doc: "Before this time, written as --since." },
];
const KIND: FlagSpec = {
  flags: "--kind <kind>",
  doc: "Only this kind of act: access (reads, writes, acts of operators) or policy (changes of rules).",
  choices: ["access", "policy"],
};

const audit = () => import("../verbs/audit.ts");

export const AUDIT_VERBS: readonly VerbSpec[] = [
  {
    path: "namespace policy audit",
    summary: "Who changed which rule, newest first.",
    flags: [PRINCIPAL, ...TIMES, ...NEWEST_FLAGS],
    examples: [["namespace policy audit --since 7d", "the changes of a week"]],
    load: async () => (await audit()).policyAudit,
  },
  {
    path: "discovery access-audit",
    summary: "Who asked for or wrote what, and who was refused, newest first.",
    flags: [PRINCIPAL, ...ACCESS, ...TIMES, ...NEWEST_FLAGS],
    examples: [
      ["discovery access-audit --namespace svc.market --reason viewer_denied", "who was refused a look at svc.market"],
      ["discovery access-audit --principal team-a --since 1h -o json", "what team-a did in the last hour"],
    ],
    load: async () => (await audit()).accessAudit,
  },
  {
    path: "audit list",
    summary: "The audit log of the server, newest first.",
    flags: [KIND, PRINCIPAL, ...ACCESS, ...TIMES, { flags: "--limit <count>", doc: "At most this many, newest first (default 100)." }],
    examples: [
      ["audit list", "the newest hundred acts"],
      ["audit list --kind policy --since 24h", "who changed which rule today"],
    ],
    load: async () => (await audit()).list,
  },
  {
    path: "audit watch",
    summary: "Follow the audit log of the server: each act as it happens.",
    flags: [
      KIND,
      PRINCIPAL,
      ...ACCESS,
      { flags: "--since <when>", doc: "Begin with acts since this time (default now)." },
      { flags: "--interval <duration>", doc: "How often to ask (default 1s)." },
      { flags: "--count <count>", doc: "Stop after this many acts." },
    ],
    examples: [
      ["audit watch --reason viewer_denied", "refusals as they happen"],
      ["audit watch --since 1h -o json >> audit.jsonl", "one JSON object a line"],
    ],
    load: async () => (await audit()).watch,
  },
  {
    path: "audit verify",
    summary: "Check the hash chain of the server's audit log, or of a JSON-lines file that it wrote.",
    args: [{ name: "[file]", doc: "JSON-lines file; - reads standard input. Without a file the server checks its own log." }],
    flags: [
      { flags: "--known <number:hash>", doc: "A record that the server's log must have: last_number and last_hash of an earlier check." },
    ],
    examples: [
      ["audit verify", "exit 0 when no record was altered, removed or moved"],
      ["audit verify --known 4711:9f86d0…", "the same, and that the whole log was not rewritten since an earlier check"],
      ["audit verify audit.jsonl", "the same for a copy of the log, without a server"],
    ],
    load: async () => (await audit()).verify,
  },
  {
    path: "report export-lag",
    summary: "What other regions have not taken yet of the summaries of the serving node, by border.",
    examples: [
      ["report export-lag", "one line a border, and whether the cluster exports at all"],
      ["report export-lag -o json", "the same, for a program"],
    ],
    load: async () => (await import("../verbs/summary-lag.ts")).exportLag,
  },
  {
    path: "report namespace-health",
    summary: "Each namespace: its services and entries by health, what of it is exported or withheld and why, and stale sources.",
    flags: [
      { flags: "--namespace <namespace>", doc: "Exactly this namespace." },
      { flags: "--prefix <namespace>", doc: "This namespace and all below it." },
      { flags: "--unhealthy", doc: "Only namespaces with entries that are not healthy." },
    ],
    examples: [
      ["report namespace-health", "one line a namespace"],
      ["report namespace-health --prefix svc --unhealthy -o json", "what needs a look, for a program"],
    ],
    load: async () => (await import("../verbs/report.ts")).namespaceHealth,
  },
];
