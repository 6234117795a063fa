/** Whether parsed JSON has the shape of a version's facts and set: a version may come from another node, which may send anything. */
import { MAX_WALL_MS, MIN_WALL_MS } from "../set/policy-set.ts";
import type { PolicySet } from "../set/rules.ts";
import type { VersionFacts } from "./facts.ts";

type Fields = Readonly<Record<string, unknown>>;
type Check = (value: unknown) => boolean;

const isText: Check = (value) => typeof value === "string";
const isFlag: Check = (value) => typeof value === "boolean";
const isWhole: Check = (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
const within =
  (min: number, max: number): Check =>
  (value) =>
    Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
const isNumber: Check = (value) => typeof value === "number" && Number.isFinite(value);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const orNothing =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const shaped =
  (fields: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isFields(value) && Object.entries(fields).every(([name, check]) => check(value[name]));

const isTexts = listOf(isText);
const isRule = shaped({
  pattern: isText,
  owners: isTexts,
  visibility: isTexts,
  visibilityTenants: isTexts,
  exportScopes: listOf(isNumber),
  allowSummaries: isFlag,
  cutoverWindows: listOf(
    shaped({ startsWallMs: isNumber, endsWallMs: orNothing(isNumber), exportScopes: listOf(isNumber), allowSummaries: orNothing(isFlag) }),
  ),
  policyVersion: isText,
  priority: isNumber,
  quota: shaped({ entries: isNumber, watches: isNumber, bytes: isNumber }),
});
const isSetShape = shaped({ version: isText, defaultAllow: isFlag, rules: listOf(isRule) });
const isPercent = within(1, 100);
const isStage: Check = (value) =>
  isFields(value) && (value["by"] === "percent" ? isPercent(value["percent"]) : value["by"] === "clusters" && isTexts(value["clusterIds"]));
const isFactsShape = shaped({
  number: isWhole,
  hlc: isWhole,
  nodeId: isText,
  version: isText,
  defaultAllow: isFlag,
  ruleCount: within(0, 2 ** 32 - 1),
  appliedWallMs: within(MIN_WALL_MS, MAX_WALL_MS),
  principal: isText,
  reason: isText,
  changeTicket: isText,
  checksum: isText,
  lineage: listOf(shaped({ number: isWhole, checksum: isText })),
  stage: orNothing(isStage),
  changes: listOf(shaped({ pattern: isText, change: isText, fields: listOf(shaped({ field: isText, removed: isTexts, added: isTexts })) })),
  changesLeftOut: isWhole,
});

/** Whether every field of a version's facts is there, of its type, and can be told: every answer about the policy has some of them. */
export function isFacts(value: unknown): value is VersionFacts {
  return isFactsShape(value);
}

/** Whether every field of a set and its rules is there, of its type; what they say is for `validate`. */
export function isSet(value: unknown): value is PolicySet {
  return isSetShape(value);
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
