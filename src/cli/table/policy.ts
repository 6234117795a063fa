/** The rows of the VERBS table for policy. */
import type { ArgSpec, FlagSpec, VerbSpec } from "./verb.ts";

const FILE: ArgSpec = { name: "<file>", doc: "Policy set in YAML or JSON; - reads standard input." };
export const REASON: FlagSpec = { flags: "--reason <text>", doc: "Reason, recorded in the history and the audit log." };
export const TICKET: FlagSpec = { flags: "--ticket <id>", doc: "Change ticket, recorded in the history and the audit log." };
const DRY_RUN: FlagSpec = { flags: "--dry-run", doc: "Show what would change without changing anything." };
const EXPECT: FlagSpec = { flags: "--expect <number>", doc: "Fail unless the newest version has this number." };
const ACTIONS = ["register", "ingest", "query", "watch", "export-summary", "admin"] as const;
const SCOPES = ["zone", "region", "global"] as const;
/** Flags for lists in chronological order, newest first. These lists show one page. */
export const NEWEST_FLAGS: readonly FlagSpec[] = [
  { flags: "--limit <count>", doc: "Maximum number of results, newest first (default 100)." },
  { flags: "--page-token <token>", doc: "Continue after the page that returned this token.", mayBeEmpty: true },
];

const policy = () => import("../verbs/policy.ts");

export const POLICY_VERBS: readonly VerbSpec[] = [
  {
    path: "discovery policy",
    summary: "Show which policy set is in force on the server, and which one is the newest.",
    args: [{ name: "[what]", doc: "Subject to show. The only value, and the default, is status.", choices: ["status"] }],
    examples: [["discovery policy", "show the number, label, rules and checksum of the set in force"]],
    load: async () => (await policy()).status,
  },
  {
    path: "namespace policy validate",
    summary: "Check a policy file: report all errors with their line numbers, then warnings.",
    args: [FILE],
    flags: [{ flags: "--offline", doc: "Check only the file, and skip the checks that need a server." }],
    examples: [
      ["namespace policy validate policy.yaml", "exit with code 0 if there are no errors; print warnings"],
      ["namespace policy validate policy.yaml --offline", "check without a server, for example in a CI pipeline"],
    ],
    load: async () => (await policy()).validate,
  },
  {
    path: "namespace policy apply",
    summary: "Apply a policy set, and show what it changes.",
    args: [FILE],
    flags: [
      DRY_RUN,
      EXPECT,
      { flags: "--percent <share>", doc: "Apply to this percentage of the nodes first, 1 to 100." },
      { flags: "--cluster <id>", doc: "Apply in this cluster first. Repeat the flag for several clusters.", isRepeatable: true },
      REASON,
      TICKET,
    ],
    examples: [
      ["namespace policy apply policy.yaml --dry-run", "show which entries would be hidden, shown or withdrawn"],
      [
        "namespace policy apply policy.yaml --expect 6 --reason 'market to team b' --ticket OPS-7",
        "apply only if version 6 is still the newest",
      ],
      ["namespace policy apply policy.yaml --percent 10", "apply to a tenth of the nodes first"],
    ],
    load: async () => (await policy()).apply,
  },
  {
    path: "namespace policy export",
    summary: "Print the policy set in force, in the format that apply reads.",
    flags: [{ flags: "--number <number>", doc: "Print this version from the history instead of the one in force." }],
    examples: [
      ["namespace policy export > policy.yaml", "save the set in force as YAML"],
      ["namespace policy export --number 6 -o json", "print an earlier version as JSON"],
    ],
    load: async () => (await policy()).exportPolicy,
  },
  {
    path: "namespace policy rollback",
    summary: "Apply an earlier policy set again, and show what changes for each viewer.",
    flags: [{ flags: "--to <number>", doc: "Number of the version (default the one before the newest)." }, DRY_RUN, EXPECT, REASON, TICKET],
    examples: [
      ["namespace policy rollback --reason 'shop is empty'", "undo the newest version"],
      ["namespace policy rollback --to 4 --dry-run", "show what a rollback to version 4 would change"],
      ["namespace policy rollback --to 4", "roll back to version 4, as a new version"],
    ],
    load: async () => (await policy()).rollback,
  },
  {
    path: "namespace policy history",
    summary: "List the policy sets, newest first: who applied each, when and why.",
    flags: [
      { flags: "--diff", doc: "Show how each version differs from the one before it." },
      { flags: "--rules", doc: "With -o json or yaml, also print the rules of each version." },
      ...NEWEST_FLAGS,
    ],
    examples: [
      ["namespace policy history", "list who changed the policy, when and why"],
      ["namespace policy history --diff --limit 1", "show what the newest version changed"],
    ],
    load: async () => (await policy()).history,
  },
  {
    path: "namespace policy explain",
    summary: "Explain why an action is allowed or denied for a viewer. The exit code is 0 in both cases.",
    flags: [
      { flags: "--namespace <namespace>", doc: "Namespace of the action.", isRequired: true },
      { flags: "--action <action>", doc: "Action to explain (default query).", choices: ACTIONS },
      { flags: "--viewer <cluster/tenant>", doc: "Viewer for whom to explain the action; either part can be empty (default: the caller)." },
      { flags: "--viewer-cluster <id>", doc: "Cluster part of --viewer." },
      { flags: "--viewer-tenant <id>", doc: "Tenant part of --viewer." },
      { flags: "--scope <scope>", doc: "Scope of the summary, with --action export-summary (default global).", choices: SCOPES },
      { flags: "--at <time>", doc: "Time of the action, such as 2026-01-31T12:00:00Z (default now)." },
    ],
    examples: [
      [
        "namespace policy explain --namespace svc.market --viewer east/team-a",
        "explain whether team-a of the cluster east sees svc.market",
      ],
      [
        "namespace policy explain --namespace svc.market --action export-summary --at 2026-02-01T00:00:00Z",
        "explain an export in a future cutover window",
      ],
    ],
    load: async () => (await policy()).explain,
  },
];
