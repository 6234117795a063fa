/** Verbs that check, apply, export, roll back, list and explain policy sets. */

import { enumToJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Act, ActSchema } from "../../../gen/waymark/options/v1/options_pb.js";
import {
  type ApplyPolicyResponse,
  ApplyPolicyResponseSchema,
  type Change,
  ChangeEffect,
  ExplainResponseSchema,
  PolicyHistoryResponseSchema,
  PolicyService,
  type PolicySet,
  PolicyStatusResponseSchema,
  type PolicyVersion,
  type Problem,
  type RollbackPolicyResponse,
  RollbackPolicyResponseSchema,
  type RuleChange,
  RuleChangeKind,
  Severity,
  type Stage,
} from "../../../gen/waymark/policy/v1/policy_pb.js";
import type { ClientCalls } from "../../client/calls.ts";
import { RequestError } from "../../client/request-error.ts";
import { POLICY_BOUNDS } from "../../lib/bounds.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { type Environment, type PolicyReading, type PolicyReadingProblem, readInput } from "../environment.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { timeText, wholeJson } from "../messages.ts";
import { type CommandOutput, factTable, type OutputTable } from "../output.ts";
import { noteMore, pagesOf, readPages } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";
import { keyWords } from "../texts.ts";

const MAX_NUMBER = Number.MAX_SAFE_INTEGER;

const { method } = PolicyService;

export const status: VerbFunction = async ({ out, client }) => {
  const answer = await client().call(method.policyStatus, {});
  const json = wholeJson(PolicyStatusResponseSchema, answer);
  out.document(json, factTable(json));
  if (!answer.enabled) out.note("no policy has ever been applied: all actions are allowed");
  if (answer.degraded !== "") out.note(`warning: ${answer.degraded}`);
  if (answer.conflict !== "") out.note(`warning: ${answer.conflict}`);
  if (answer.notTaken !== "") out.note(`warning: not accepted: ${answer.notTaken}`);
};

export const validate: VerbFunction = async ({ environment, args, flags, out, client }) => {
  const [file = ""] = args;
  const reading = await readPolicyFile(environment, file);
  const { policy } = reading;
  const asksServer = policy !== undefined && !flags.isOn("offline");
  const problems = asksServer ? allProblems(reading, await client().call(method.validatePolicy, { policy })) : reading.problems;
  const isValid = problems.every(({ severity }) => severity !== "error");
  printProblems(file, problems, out);
  out.json({ valid: isValid, problems: problemsJson(problems) });
  if (isValid) out.note(`${file} is valid: ${counted(policy?.rules.length ?? 0, "rule")}`);
  return isValid ? EXIT.done : EXIT.failed;
};

export const apply: VerbFunction = async ({ environment, args, flags, out, client }) => {
  const [file = ""] = args;
  const stage = stageOf(flags);
  const change = changeOf(flags);
  const reading = await readPolicyFile(environment, file);
  if (reading.policy === undefined) return refuseFile(file, reading.problems, out);
  const { policy } = reading;
  const request = { ...change, policy, ...(stage && { stage }) };
  const answer = await changing(file, reading, () => client().call(method.applyPolicy, request));
  printChange(out, answer, { json: wholeJson(ApplyPolicyResponseSchema, answer), what: file, reading, isDryRun: change.dryRun });
  const stays = answer.number === 0n ? "no policy is in force" : `version ${answer.number} stays in force`;
  if (change.dryRun) out.note(`dry run, nothing was changed: ${stays}`);
  else if (stage === undefined) out.note(`version ${answer.number} is in force`);
  else out.note(`version ${answer.number} is the newest, and is in force only on the nodes in its rollout stage`);
  return EXIT.done;
};

/** Returns the flags of `apply` and `rollback` as fields of a request. */
function changeOf(flags: Flags) {
  return {
    dryRun: flags.isOn("dryRun"),
    expectedNumber: BigInt(flags.count("expect", MAX_NUMBER) ?? 0),
    reason: flags.text("reason") ?? "",
    changeTicket: flags.text("ticket") ?? "",
  };
}

function refuseFile(file: string, problems: readonly PolicyReadingProblem[], out: CommandOutput): typeof EXIT.failed {
  printProblems(file, problems, out);
  const count = problems.filter(({ severity }) => severity === "error").length;
  out.error(`nothing was applied: the file has ${counted(count, "error")}`);
  out.json({ applied: false, dryRun: false, changes: [], problems: problemsJson(problems) });
  return EXIT.failed;
}

function stageOf(flags: Flags) {
  const percent = flags.count("percent", 100);
  const clusterIds = [...flags.list("cluster")];
  if (percent !== undefined && clusterIds.length > 0) throw new UsageError("--percent and --cluster cannot be combined");
  if (percent !== undefined) return { by: { case: "percent", value: percent } } as const;
  return clusterIds.length === 0 ? undefined : ({ by: { case: "clusters", value: { clusterIds } } } as const);
}

/** Applies a policy change. Errors refer to lines in the file. The error for a version conflict contains advice. */
async function changing<T>(file: string, reading: PolicyReading, change: () => Promise<T>): Promise<T> {
  try {
    return await change();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const { reason, violations } = error.facts;
    if (reason === "VERSION_CONFLICT") {
      const advice = "nothing was changed; run waymark namespace policy history --diff to see the newer versions";
      throw new CommandError(`${error.message}\n${advice}`, EXIT.failed, error);
    }
    if (reading === NO_FILE || violations.length === 0) throw error;
    const lines = violations.map(({ field, description }) => {
      const path = field.replace(/^policy\./, "");
      return [placeText(file, field.startsWith("policy.") ? reading.lineOf(path) : 0), path, description].join(": ");
    });
    throw new CommandError([...lines, "nothing was applied"].join("\n"), EXIT.failed, error);
  }
}

/** Prints a change's effect on viewers, and its problems. */
function printChange(
  out: CommandOutput,
  answer: ApplyPolicyResponse | RollbackPolicyResponse,
  printed: { readonly json: object; readonly what: string; readonly reading: PolicyReading; readonly isDryRun: boolean },
): void {
  const { changes, changesLeftOut } = answer;
  const { json, what, reading, isDryRun } = printed;
  const problems = allProblems(reading, answer);
  printProblems(what, problems, out);
  out.document({ ...json, applied: !isDryRun, dryRun: isDryRun, problems: problemsJson(problems) }, changeTable(changes));
  out.note(changeWords(changes, Number(changesLeftOut)));
}

function changeTable(changes: readonly Change[]): OutputTable<Change> {
  return {
    columns: [
      { title: "EFFECT", text: ({ effect }) => enumWord(ChangeEffect, effect) },
      { title: "NAMESPACE", text: ({ namespace }) => namespace },
      { title: "ENTRIES", text: ({ entries }) => String(entries) },
      { title: "VIEWERS", text: forWords },
      {
        title: "EXAMPLES",
        text: ({ examples, namespace }) => examples.map((key) => keyWords(key).slice(namespace.length + 1)).join(", "),
      },
    ],
    rows: changes,
    whenEmpty: "",
  };
}

function forWords({ effect, viewers }: Change): string {
  if (viewers.length === 0) return effect === ChangeEffect.WITHDRAW ? "" : "all viewers";
  return viewers.map(({ clusterId, tenantId }) => `${clusterId}/${tenantId}`).join(", ");
}

function changeWords(changes: readonly Change[], leftOut: number): string {
  if (changes.length === 0) return "nothing changes in the catalog for any viewer";
  const words = [ChangeEffect.HIDE, ChangeEffect.SHOW, ChangeEffect.WITHDRAW].flatMap((effect) => {
    const rows = changes.filter((change) => change.effect === effect);
    const entries = rows.reduce((sum, change) => sum + Number(change.entries), 0);
    return rows.length === 0
      ? []
      : [`${enumWord(ChangeEffect, effect)} ${counted(entries, "entry", "entries")} in ${counted(rows.length, "namespace")}`];
  });
  return `${words.join(", ")}${leftOut === 0 ? "" : `; ${leftOut} more changes are not shown`}`;
}

export const exportPolicy: VerbFunction = async ({ environment, flags, out, client }) => {
  const wanted = flags.count("number", MAX_NUMBER);
  const policy = wanted === undefined ? await inForce(client()) : await versionOf(client(), wanted);
  out.raw(await environment.writePolicy(policy, out.format === "json" ? "json" : "yaml"));
  out.note(`version ${policy.number}, ${counted(policy.rules.length, "rule")}`);
};

async function inForce(client: ClientCalls): Promise<PolicySet> {
  const { policy } = await client.call(method.exportPolicy, {});
  if (policy === undefined) throw new CommandError("no policy is in force", EXIT.notFound);
  return policy;
}

async function versionOf(client: ClientCalls, number: number): Promise<PolicySet> {
  for await (const { versions } of pagesOf((pageToken) => client.call(method.policyHistory, { pageToken }))) {
    const found = versions.find(({ policy }) => Number(policy?.number) === number);
    if (found?.unreadable) throw new CommandError(`version ${number} cannot be read: ${found.unreadable}`);
    if (found?.policy !== undefined) return found.policy;
  }
  throw new CommandError(`version ${number} is not in the history`, EXIT.notFound);
}

/** Used if there is no file, so that problems have no lines. */
const NO_FILE: PolicyReading = { policy: undefined, problems: [], lineOf: () => 0 };

export const rollback: VerbFunction = async ({ flags, out, client }) => {
  const to = flags.count("to", MAX_NUMBER) ?? 0;
  const request = { ...changeOf(flags), toNumber: BigInt(to) };
  const answer = await changing("", NO_FILE, () => client().call(method.rollbackPolicy, request));
  const words = to === 0 ? "the version before the newest" : `version ${to}`;
  const json = { ...wholeJson(RollbackPolicyResponseSchema, answer), toNumber: String(to) };
  printChange(out, answer, { json, what: words, reading: NO_FILE, isDryRun: request.dryRun });
  if (request.dryRun) out.note(`dry run, nothing was changed: version ${answer.number} stays in force`);
  else out.note(`the rules of ${words} are in force again as version ${answer.number}`);
};

export const history: VerbFunction = async ({ flags, out, client }) => {
  const withoutRules = !(out.isMachine && flags.isOn("rules"));
  const read = (page: { limit: number; pageToken: string }) => client().call(method.policyHistory, { ...page, withoutRules });
  const answer = await readPages(flags, ["versions"], read, 0);
  const json = wholeJson(PolicyHistoryResponseSchema, answer);
  if (flags.isOn("diff")) out.document(json, diffTable(answer.versions));
  else out.document(json, historyTable(answer.versions));
  noteMore(out, answer);
};

const numberOf = ({ policy }: PolicyVersion): string => String(policy?.number ?? 0n);

function historyTable(versions: readonly PolicyVersion[]): OutputTable<PolicyVersion> {
  return {
    columns: [
      { title: "NUMBER", text: numberOf },
      { title: "APPLIED AT", text: ({ appliedAt }) => timeText(appliedAt) },
      { title: "BY", text: ({ principal }) => principal },
      { title: "VERSION", text: ({ policy }) => policy?.version ?? "" },
      { title: "STAGE", text: ({ stage, superseded }) => (superseded ? "superseded" : stageWords(stage)) },
      { title: "CHANGES", text: ({ changes, unreadable }) => (unreadable === "" ? String(changes.length) : "unreadable") },
      { title: "CHECKSUM", isWide: true, text: ({ checksum }) => checksum },
      { title: "TICKET", text: ({ changeTicket }) => changeTicket },
      { title: "REASON", text: ({ reason, unreadable }) => (unreadable === "" ? reason : unreadable) },
    ],
    rows: versions,
    whenEmpty: "no policy has ever been applied",
  };
}

interface DiffRow {
  readonly version: PolicyVersion;
  readonly change: RuleChange;
  readonly field: string;
  readonly removed: readonly string[];
  readonly added: readonly string[];
}

function diffTable(versions: readonly PolicyVersion[]): OutputTable<DiffRow> {
  const rows = versions.flatMap((version) =>
    version.changes.flatMap((change): readonly DiffRow[] => {
      if (change.fields.length === 0) return [{ version, change, field: "", removed: [], added: [] }];
      return change.fields.map(({ field, removed, added }) => ({ version, change, field, removed, added }));
    }),
  );
  return {
    columns: [
      { title: "NUMBER", text: ({ version }) => numberOf(version) },
      { title: "RULE", text: ({ change }) => (change.namespace === "" ? "(the set)" : change.namespace) },
      { title: "CHANGE", text: ({ change }) => enumWord(RuleChangeKind, change.kind) },
      { title: "FIELD", text: ({ field }) => field },
      { title: "REMOVED", text: ({ removed }) => removed.join(", ") },
      { title: "ADDED", text: ({ added }) => added.join(", ") },
    ],
    rows,
    whenEmpty: "no differences",
  };
}

export const explain: VerbFunction = async ({ flags, out, client }) => {
  const namespace = flags.text("namespace") ?? "";
  const action = flags.enum("action", Act) || Act.QUERY;
  const viewer = viewerOf(flags);
  const atMs = flags.instantMs("at");
  const scope = flags.enum("scope", Scope);
  const answer = await client().call(method.explain, {
    namespace,
    action,
    scope,
    ...(viewer && { viewer }),
    ...(atMs !== undefined && { at: timestampFromMs(atMs) }),
  });
  const json = { namespace, action: enumToJson(ActSchema, action), ...wholeJson(ExplainResponseSchema, answer) };
  out.document(json, {
    columns: [
      { title: "VERDICT", text: ({ allowed }) => (allowed ? "allowed" : "denied") },
      { title: "REASON", text: ({ reason }) => reason },
      { title: "RULE", text: ({ rule }) => rule },
      { title: "UNTIL", text: ({ until }) => timeText(until) },
    ],
    rows: [answer],
  });
};

/** Returns `--viewer cluster/tenant` or its two parts, or undefined for the caller. */
function viewerOf(flags: Flags): { readonly clusterId: string; readonly tenantId: string } | undefined {
  const both = flags.text("viewer");
  const [cluster, tenant] = [flags.text("viewerCluster"), flags.text("viewerTenant")];
  if (both === undefined)
    return cluster === undefined && tenant === undefined ? undefined : { clusterId: cluster ?? "", tenantId: tenant ?? "" };
  if (cluster !== undefined || tenant !== undefined)
    throw new UsageError("--viewer cannot be combined with --viewer-cluster or --viewer-tenant");
  // IDs that contain a slash must be given as separate flags.
  const [clusterId = "", tenantId, ...rest] = both.split("/");
  if (tenantId === undefined || rest.length > 0)
    throw new UsageError(
      `invalid --viewer ${both}: expected cluster/tenant; for ids with a slash, use --viewer-cluster and --viewer-tenant`,
    );
  return { clusterId, tenantId };
}

/** Reads a policy file named on the command line. */
async function readPolicyFile(environment: Environment, file: string): Promise<PolicyReading> {
  return environment.readPolicy(await readInput(environment, file, POLICY_BOUNDS.maxFileBytes));
}

/** Returns the nodes to which a staged version applies, or an empty list if it applies to all. */
function stageWords(stage: Stage | undefined): string {
  if (stage === undefined) return "";
  const { by } = stage;
  switch (by.case) {
    case "percent":
      return `${by.value} % of nodes`;
    case "clusters":
      return by.value.clusterIds.join(", ");
    case undefined:
      return "";
  }
}

/** Formats problems in protobuf's JSON form. */
function problemsJson(problems: readonly PolicyReadingProblem[]) {
  return problems.map((problem) => ({ ...problem, severity: `SEVERITY_${problem.severity.toUpperCase()}` }));
}

/** Returns the problems found in the file and by the server, sorted by line and without duplicates. An unknown severity is treated as an error. */
function allProblems(
  { problems, lineOf }: PolicyReading,
  answer: { readonly problems: readonly Problem[] },
): readonly PolicyReadingProblem[] {
  const nameOf = ({ path, severity, message }: PolicyReadingProblem): string => [path, severity, message].join("\0");
  const known = new Set(problems.map(nameOf));
  const theirs = answer.problems.map(({ path, line, severity, message }): PolicyReadingProblem => {
    return { path, line: line > 0 ? line : lineOf(path), severity: severity === Severity.WARNING ? "warning" : "error", message };
  });
  return [...problems, ...theirs.filter((problem) => !known.has(nameOf(problem)))].toSorted((a, b) => a.line - b.line);
}

/** `file:line`. Line 0 means unknown. */
function placeText(file: string, line: number): string {
  return line > 0 ? `${file}:${line}` : file;
}

/** Prints each problem as a line on stderr: `policy.yaml:12: rules[3].owners[0]: …`. */
function printProblems(file: string, problems: readonly PolicyReadingProblem[], out: CommandOutput): void {
  for (const { path, line, severity, message } of problems) {
    const text = [placeText(file, line), ...(path === "" ? [] : [path]), message].join(": ");
    if (severity === "error") out.error(text);
    else out.note(`warning: ${text}`);
  }
}
