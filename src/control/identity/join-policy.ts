/**
 * The join policy of a cluster: decides which programs can join, and which of them need an attestation. An attestation is a signed token of an issuer
 * that the policy names, such as the token of a Kubernetes service account. A program's own statements about itself prove nothing.
 */
import { IDENTITY_ROLES, type IdentityRole } from "../../lib/certificates/spiffe.ts";
import { invalid } from "../../lib/errors.ts";
import { matchesNamePattern } from "../../lib/text/name-pattern.ts";
import type { JoinPolicy } from "./codec.ts";

/** An attestation whose signature, issuer, audience and times are valid. */
export interface Attestation {
  /** The name of the issuer in the policy. */
  readonly issuer: string;
  readonly subject: string;
  readonly claims: Readonly<Record<string, unknown>>;
}

/** Maximum size of the record of a policy. */
const MAX_BYTES = 65_536;

type RequiredAttestation = NonNullable<JoinPolicy["rules"][number]["attested"]>;

interface Newcomer {
  /** The role in its token. Undefined without a token. */
  readonly role: IdentityRole | undefined;
  readonly clusterId: string;
  readonly name: string;
  /** A valid attestation, or the reason why the request has no valid one. */
  readonly attestation: Attestation | string;
}

/** The decision of a policy about a newcomer. */
export interface PolicyOutcome {
  readonly role: IdentityRole;
  readonly dnsNames: readonly string[];
  /** `<issuer>/<subject>`. Empty if no attestation was needed. */
  readonly attestedBy: string;
  readonly refusal?: { readonly problem: "join_denied" | "not_attested"; readonly message: string };
}

/** Finds the first rule that matches. Without a policy, a token is enough. */
export function judgePolicy(policy: JoinPolicy | undefined, { role, clusterId, name, attestation }: Newcomer): PolicyOutcome {
  const found: PolicyOutcome = { role: role ?? "node", dnsNames: [], attestedBy: "" };
  if (policy === undefined && role !== undefined) return found;
  // A newcomer without a token can get any role that no rule has denied so far.
  let open: readonly IdentityRole[] = role === undefined ? IDENTITY_ROLES : [role];
  let unmet: string | undefined;
  for (const { isAllowed, roles, clusters, names, attested, isTokenReplaced, dnsNames } of policy?.rules ?? []) {
    const matching = open.filter((each) => roles.length === 0 || roles.includes(each));
    const [first] = matching;
    if (first === undefined || !matchesOne(clusters, clusterId) || !matchesOne(names, name)) continue;
    if (isAllowed && role === undefined && !isTokenReplaced) continue;
    const fault = attested && faultOf(attested, attestation);
    if (isAllowed) unmet ??= fault;
    if (fault !== undefined) continue;
    const isAttested = attested !== undefined && typeof attestation !== "string";
    if (isAllowed) return { role: first, dnsNames, attestedBy: isAttested ? `${attestation.issuer}/${attestation.subject}` : "" };
    open = open.filter((each) => !matching.includes(each));
  }
  if (unmet !== undefined) return { ...found, refusal: { problem: "not_attested", message: `attestation: ${unmet}` } };
  const by = role === undefined ? "without a token" : `as a ${role}`;
  return { ...found, refusal: { problem: "join_denied", message: `name: the join policy does not allow ${name} to join ${by}` } };
}

function matchesOne(patterns: readonly string[], name: string): boolean {
  return patterns.length === 0 || patterns.some((pattern) => matchesNamePattern(pattern, name));
}

function faultOf({ issuer, claims }: RequiredAttestation, attestation: Attestation | string): string | undefined {
  if (typeof attestation === "string") return attestation;
  if (attestation.issuer !== issuer) return `the join policy needs one of the issuer ${issuer}, got ${attestation.issuer}`;
  const other = claims.find(({ path, values }) => {
    const items: readonly unknown[] = [claimOf(attestation.claims, path)].flat();
    return !values.some((value) => items.includes(value));
  });
  return other && `the claim ${other.path} does not have the value that the join policy needs`;
}

/** The names of some claims contain slashes. In other paths, slashes separate the names of nested objects. */
function claimOf(claims: Attestation["claims"], path: string): unknown {
  const step = (at: unknown, name: string): unknown =>
    typeof at === "object" && at !== null && Object.hasOwn(at, name) ? Reflect.get(at, name) : undefined;
  return step(claims, path) ?? path.split("/").reduce(step, claims);
}

/** Throws `invalid_argument` for a policy that the rules of the contract allow, but that cannot be used. */
export function checkPolicy({ issuers, rules }: JoinPolicy, sizeBytes: number): void {
  if (sizeBytes > MAX_BYTES) throw invalid("policy", `has ${sizeBytes} bytes of JSON, more than the maximum of ${MAX_BYTES}`);
  issuers.forEach(({ name, jwks }, i) => {
    if (issuers.findIndex((each) => each.name === name) < i)
      throw invalid(`policy.issuers[${i}].name`, `${name} is the name of two issuers`);
    if (!hasPublicKeys(jwks)) throw invalid(`policy.issuers[${i}].jwks`, "must be a JWKS with public keys: JSON with a list of keys");
  });
  rules.forEach(({ attested, isTokenReplaced, isAllowed, roles }, i) => {
    if (attested !== undefined && !issuers.some(({ name }) => name === attested.issuer))
      throw invalid(`policy.rules[${i}].attested.issuer`, `${attested.issuer} is not the name of an issuer in policy.issuers`);
    if (isTokenReplaced && !(isAllowed && attested !== undefined && roles.length === 1))
      throw invalid(`policy.rules[${i}].token`, "is replaced only by a rule that allows, with attested and with exactly one role");
  });
}

/** The store never contains a private or shared key, so such keys are refused. */
function hasPublicKeys(jwks: string): boolean {
  try {
    const keys: unknown = Reflect.get(Object(JSON.parse(jwks)), "keys");
    const isPublic = (key: unknown) => typeof key === "object" && key !== null && !("d" in key || "k" in key);
    return Array.isArray(keys) && keys.length > 0 && keys.every(isPublic);
  } catch {
    return false;
  }
}
