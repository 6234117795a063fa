/** The rows of the VERBS table about policy. */
import type { ArgSpec, FlagSpec, VerbSpec } from "./verb.ts";

const FILE: ArgSpec = { name: "<file>", doc: "Policy set, YAML or JSON; - reads standard input." };
const REASON: FlagSpec = { flags: "--reason <text>", doc: "Why, for the history and the audit." };
const TICKET: FlagSpec = { flags: "--ticket <id>", doc: "Change ticket, for the history and the audit." };
const DRY_RUN: FlagSpec = { flags: "--dry-run", doc: "Show what would change, and change nothing." };
const EXPECT: FlagSpec = { flags: "--expect <number>", doc: "Refuse unless this is the newest version's number." };
const ACTIONS = ["register", "ingest", "query", "watch", "export-summary", "admin"] as const;
const SCOPES = ["zone", "region", "global"] as const;
/** Flags of lists that go back in time. They show one page. */
export const NEWEST_FLAGS: readonly FlagSpec[] = [
  { flags: "--limit <count>", doc: "At most this many, newest first (default 100)." },
  { flags: "--page-token <token>", doc: "The page after the one that gave this token.", mayBeEmpty: true },
];

const policy = () => import("../verbs/policy.ts");

export const POLICY_VERBS: readonly VerbSpec[] = [
  {
    path: "discovery policy",
    summary: "Which policy set is in force at the server, and which is the newest.",
    args: [{ name: "[what]", doc: "What to show.", choices: ["status"] }],
    examples: [["discovery policy", "number, label, rules and checksum of the set in force"]],
    load: async () => (await policy()).status,
  },
  {
    path: "namespace policy validate",
    summary: "Check a policy file: every error at once, with its line; then warnings.",
    args: [FILE],
    flags: [{ flags: "--offline", doc: "Check the file alone, without the checks that only the server can make." }],
    examples: [
      ["namespace policy validate policy.yaml", "exit 0 when there are no errors; warnings are shown"],
      ["namespace policy validate policy.yaml --offline", "without a server, for example in a pipeline"],
    ],
    load: async () => (await policy()).validate,
  },
  {
    path: "namespace policy apply",
    summary: "Put a policy set in force, and show what it changes.",
    args: [FILE],
    flags: [
      DRY_RUN,
      EXPECT,
      { flags: "--percent <share>", doc: "Apply on this share of the nodes first, 1 to 100." },
      { flags: "--cluster <id>", doc: "Apply in these clusters first.", isRepeatable: true },
      REASON,
      TICKET,
    ],
    examples: [
      ["namespace policy apply policy.yaml --dry-run", "which entries would be hidden, shown or withdrawn"],
      ["namespace policy apply policy.yaml --expect 6 --reason 'market to team b' --ticket OPS-7", "only if version 6 is still the newest"],
      ["namespace policy apply policy.yaml --percent 10", "on a tenth of the nodes first"],
    ],
    load: async () => (await policy()).apply,
  },
  {
    path: "namespace policy export",
    summary: "Print the policy set in force, as a file for apply.",
    flags: [{ flags: "--number <number>", doc: "This version, from the history, instead of the one in force." }],
    examples: [
      ["namespace policy export > policy.yaml", "as YAML"],
      ["namespace policy export --number 6 -o json", "an earlier version, as JSON"],
    ],
    load: async () => (await policy()).exportPolicy,
  },
  {
    path: "namespace policy rollback",
    summary: "Put an earlier policy set in force again, and show what that changes for whom.",
    flags: [{ flags: "--to <number>", doc: "Its number (default the one before the newest)." }, DRY_RUN, EXPECT, REASON, TICKET],
    examples: [
      ["namespace policy rollback --reason 'shop is empty'", "undo the newest version"],
      ["namespace policy rollback --to 4 --dry-run", "what going back to version 4 would change"],
      ["namespace policy rollback --to 4", "back to version 4, as a new version"],
    ],
    load: async () => (await policy()).rollback,
  },
  {
    path: "namespace policy history",
    summary: "Earlier policy sets, newest first: who, when and why.",
    flags: [
      { flags: "--diff", doc: "Show how each differs from the one before it." },
      { flags: "--rules", doc: "With -o json or yaml: also the rules of each." },
      ...NEWEST_FLAGS,
    ],
    examples: [
      ["namespace policy history", "who changed the policy, when and why"],
      ["namespace policy history --diff --limit 1", "what the newest version changed"],
    ],
    load: async () => (await policy()).history,
  },
  {
    path: "namespace policy explain",
    summary: "Why a viewer may or may not do something. The exit code is 0 for any verdict.",
    flags: [
      { flags: "--namespace <namespace>", doc: "Namespace.", isRequired: true },
      { flags: "--action <action>", doc: "The action (default query).", choices: ACTIONS },
      { flags: "--viewer <cluster/tenant>", doc: "Whose view; either part may be empty (default the caller's own)." },
      { flags: "--viewer-cluster <id>", doc: "Cluster part of --viewer." },
      { flags: "--viewer-tenant <id>", doc: "Tenant part of --viewer." },
      { flags: "--scope <scope>", doc: "Scope of the summary, for export-summary (default global).", choices: SCOPES },
      { flags: "--at <time>", doc: "At this time, such as 2026-01-31T12:00:00Z (default now)." },
    ],
    examples: [
      [
        "namespace policy explain --namespace svc.market --viewer east/team-a",
        "whether team-a of the cluster east sees svc.market, and why",
      ],
      ["namespace policy explain --namespace svc.market --action export-summary --at 2026-02-01T00:00:00Z", "in a future cutover window"],
    ],
    load: async () => (await policy()).explain,
  },
];
