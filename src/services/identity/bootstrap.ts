/** Implements waymark.control.v1.BootstrapService: join tokens, certificates for programs, and the list of identities. */
import { create, type Message } from "@bufbuild/protobuf";
import {
  BootstrapService,
  type BootstrapServiceApplyJoinPolicyRequest,
  BootstrapServiceApplyJoinPolicyResponseSchema,
  type BootstrapServiceAuthorityRequest,
  BootstrapServiceAuthorityResponseSchema,
  type BootstrapServiceCreateTokenRequest,
  BootstrapServiceCreateTokenResponseSchema,
  type BootstrapServiceDropRootRequest,
  BootstrapServiceDropRootResponseSchema,
  type BootstrapServiceGetJoinPolicyRequest,
  type BootstrapServiceIssueRequest,
  BootstrapServiceIssueResponseSchema,
  type BootstrapServiceListIdentitiesRequest,
  BootstrapServiceListIdentitiesResponseSchema,
  type BootstrapServiceListTokensRequest,
  BootstrapServiceListTokensResponseSchema,
  type BootstrapServicePublishRootRequest,
  BootstrapServicePublishRootResponseSchema,
  type BootstrapServiceRevokeRequest,
  BootstrapServiceRevokeResponseSchema,
  type BootstrapServiceRevokeTokenRequest,
  BootstrapServiceRevokeTokenResponseSchema,
  JoinPolicySchema,
} from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { decodePageToken, encodePageToken, pageLimit } from "../../catalog/query/query.ts";
import type { Authority } from "../../control/identity/authority.io.ts";
import type { TrustCopy } from "../../control/identity/trust.ts";
import { commonNameIn } from "../../lib/certificates/roots.io.ts";
import { HOUR_MS } from "../../lib/duration.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { durationMs, timestampOf } from "../contract.ts";
import { filterHash, paged } from "../list-page.ts";
import { isUnavailable } from "../recorded-operation.ts";
import type { CallContext, HandlersOf, ServiceDefinition } from "../service.ts";
import { identityMessage, issuerMessage, roleOf, tokenMessage } from "./identity-message.ts";

/** An act of the authority, as recorded in the audit log. */
export interface IdentityOperation {
  readonly action:
    | "identity.apply_join_policy"
    | "identity.create_token"
    | "identity.drop_root"
    | "identity.follow"
    | "identity.issue"
    | "identity.join"
    | "identity.publish_root"
    | "identity.renew"
    | "identity.revoke"
    | "identity.revoke_token"
    | "identity.create_credential"
    | "identity.revoke_credential";
  readonly requestId: string;
  /** The node, if the act concerns one. */
  readonly nodeId: string;
  /** Why the act was refused. Empty if it was carried out, or if its outcome is unknown. */
  readonly refusal: string;
  readonly detail: string;
}

export interface BootstrapParts {
  /** Undefined if this node is no issuer. */
  readonly authority: Authority | undefined;
  /** The roots and the issuers that this node knows. */
  readonly copy: Pick<TrustCopy, "issuers" | "roots">;
  readonly leafTtlMs: number;
  readonly onOperation: (caller: Caller, operation: IdentityOperation) => void;
}

const DEFAULT_TOKEN_TTL_MS = HOUR_MS;

export function bootstrapService(parts: BootstrapParts): ServiceDefinition {
  const unary = <I extends Message, O extends Message>(handle: (authority: Authority, request: I, context: CallContext) => Promise<O>) => ({
    kind: "unary" as const,
    handle: (request: I, context: CallContext) => handle(authorityOf(parts), request, context),
  });
  return {
    desc: BootstrapService,
    handlers: {
      createToken: unary((authority, request: BootstrapServiceCreateTokenRequest, context) =>
        createToken(parts, authority, request, context),
      ),
      listTokens: unary(async (authority, request: BootstrapServiceListTokensRequest, { time }) => {
        const found = await authority.tokens(time.wallMs);
        const { page, nextPageToken } = paged(found, ({ id }) => id, { ...request, hash: filterHash("join tokens") });
        return create(BootstrapServiceListTokensResponseSchema, { tokens: page.map(tokenMessage), nextPageToken });
      }),
      revokeToken: unary(async (authority, { tokenId }: BootstrapServiceRevokeTokenRequest, context) => {
        await recorded(parts, context, { action: "identity.revoke_token", detail: `token=${tokenId}` }, () =>
          authority.revokeToken(tokenId),
        );
        return create(BootstrapServiceRevokeTokenResponseSchema);
      }),
      issue: unary((authority, request: BootstrapServiceIssueRequest, context) => issue(parts, authority, request, context)),
      revoke: unary((authority, request: BootstrapServiceRevokeRequest, context) => revoke(parts, authority, request, context)),
      listIdentities: unary((authority, request: BootstrapServiceListIdentitiesRequest) => listIdentities(authority, request)),
      publishRoot: unary(async ({ roots }, { certificate }: BootstrapServicePublishRootRequest, context) => {
        const rootId = roots.idOf(certificate);
        const publish = () => roots.publish(certificate, context.time.wallMs);
        await recorded(parts, context, { action: "identity.publish_root", detail: `root=${rootId}` }, publish);
        return create(BootstrapServicePublishRootResponseSchema, { rootId });
      }),
      applyJoinPolicy: unary((authority, request: BootstrapServiceApplyJoinPolicyRequest, context) =>
        applyJoinPolicy(parts, authority, request, context),
      ),
      getJoinPolicy: unary(async (authority, _request: BootstrapServiceGetJoinPolicyRequest) => (await authority.joinPolicy()).found),
      dropRoot: unary(async ({ roots }, { rootId, force }: BootstrapServiceDropRootRequest, context) => {
        const drop = () => roots.drop(rootId, force, context.time.wallMs);
        await recorded(parts, context, { action: "identity.drop_root", detail: `root=${rootId} force=${force}` }, drop);
        return create(BootstrapServiceDropRootResponseSchema);
      }),
      authority: unary((authority, _request: BootstrapServiceAuthorityRequest) => readAuthority(parts, authority)),
    } satisfies HandlersOf<typeof BootstrapService>,
  };
}

function authorityOf({ authority, copy }: BootstrapParts): Authority {
  if (authority !== undefined) return authority;
  throw wrongNode(copy, "this node issues no certificates", 'make an issuer with "waymark ca init"');
}

/** Throws `not_ready` if this issuer has not read the roots yet. */
export function knownRoots({ roots }: Pick<TrustCopy, "roots">): string {
  if (roots === "") throw new WaymarkError("not_ready", "this issuer does not know the roots yet", { retryMs: 1000 });
  return roots;
}

/** The error of a node that cannot answer. It names the issuers, which can. */
export function wrongNode({ issuers }: BootstrapParts["copy"], why: string, otherwise: string): WaymarkError {
  const known = issuers.map(({ address }) => address);
  const where = known.length === 0 ? otherwise : `the issuers are at ${known.join(" and ")}`;
  return new WaymarkError("wrong_node", `${why}; ${where}`, { metadata: { addresses: known.join(" ") } });
}

async function readAuthority({ copy }: BootstrapParts, authority: Authority) {
  const { roots, liveCount: liveNodes } = await authority.roots.list();
  const accepted = roots.map(({ certificate: { subject, validToDate }, ...row }) => ({
    ...row,
    name: commonNameIn(subject),
    expiresAt: timestampOf(validToDate.getTime()),
  }));
  const issuers = copy.issuers.map(issuerMessage);
  return create(BootstrapServiceAuthorityResponseSchema, {
    roots: roots.map(({ certificate }) => certificate.toString()),
    issuers,
    accepted,
    liveNodes,
  });
}

async function createToken(parts: BootstrapParts, authority: Authority, request: BootstrapServiceCreateTokenRequest, context: CallContext) {
  const { name, dnsNames, uses, ttl } = request;
  const role = roleOf(request.role) ?? "node";
  if (name !== "" && uses > 1) throw invalid("uses", `a token for ${name} can be used once, because a name has one holder`);
  const createdBy = context.caller.principal;
  const ttlMs = ttl === undefined ? DEFAULT_TOKEN_TTL_MS : durationMs(ttl);
  const terms = { role, name, dnsNames: ownNames(dnsNames), uses: uses === 0 ? 1 : uses, createdBy, ttlMs };
  const detail = `role=${role} name=${name} uses=${terms.uses} ttl_s=${ttlMs / 1000}`;
  const made = await recorded(parts, context, { action: "identity.create_token", detail }, () =>
    authority.createToken(terms, context.time.wallMs),
  );
  return create(BootstrapServiceCreateTokenResponseSchema, { token: made.token, info: tokenMessage(made) });
}

async function issue(parts: BootstrapParts, authority: Authority, request: BootstrapServiceIssueRequest, context: CallContext) {
  const { name, publicKey, dnsNames, ttl } = request;
  const role = roleOf(request.role);
  if (role === undefined || role === "node")
    throw invalid("role", "must be client or resolver; a node joins with a token, so that its key stays on its machine");
  const terms = { role, name, publicKey, dnsNames: ownNames(dnsNames), ttlMs: ttl === undefined ? parts.leafTtlMs : durationMs(ttl) };
  const detail = `role=${role} name=${name}`;
  const roots = knownRoots(parts.copy);
  const made = await recorded(parts, context, { action: "identity.issue", detail }, () => authority.issue(terms, context.time.wallMs));
  return create(BootstrapServiceIssueResponseSchema, { certificates: made.chain, roots, identity: identityMessage(made) });
}

async function revoke(parts: BootstrapParts, authority: Authority, request: BootstrapServiceRevokeRequest, context: CallContext) {
  const { name, reason, force: isForced } = request;
  const role = roleOf(request.role) ?? "node";
  const operation = {
    action: "identity.revoke",
    detail: `role=${role} name=${name}${isForced ? " force" : ""} ${reason}`,
    nodeId: role === "node" ? name : "",
  } as const;
  const terms = { reason, isForced, revokedBy: context.caller.principal };
  const { wasIssuer } = await recorded(parts, context, operation, () => authority.revoke({ role, name }, terms, context.time.wallMs));
  return create(BootstrapServiceRevokeResponseSchema, { wasIssuer });
}

async function applyJoinPolicy(
  parts: BootstrapParts,
  authority: Authority,
  { policy = create(JoinPolicySchema), expectedVersion }: BootstrapServiceApplyJoinPolicyRequest,
  context: CallContext,
) {
  policy.rules.forEach(({ dnsNames }, i) => ownNames(dnsNames, `policy.rules[${i}].`));
  const detail = `issuers=${policy.issuers.length} rules=${policy.rules.length} expected_version=${expectedVersion}`;
  const version = await recorded(parts, context, { action: "identity.apply_join_policy", detail }, () =>
    authority.applyJoinPolicy(policy, expectedVersion, context.caller.principal, context.time.wallMs),
  );
  return create(BootstrapServiceApplyJoinPolicyResponseSchema, { version });
}

/** Names that select a cluster at a fabric listener belong to issuers alone. Throws `invalid_argument` for such a name. */
function ownNames(dnsNames: readonly string[], path = ""): readonly string[] {
  dnsNames.forEach((name, i) => {
    if (/(?:^|\.)waymark\.?$/i.test(name)) throw invalid(`${path}dns_names[${i}]`, "names under waymark identify issuers");
  });
  return dnsNames;
}

async function listIdentities(authority: Authority, { role, limit, pageToken }: BootstrapServiceListIdentitiesRequest) {
  const hash = filterHash("identities", role);
  const { found, nextAfter } = await authority.identities(roleOf(role), {
    after: decodePageToken(pageToken, hash),
    limit: pageLimit(limit),
  });
  const nextPageToken = nextAfter === undefined ? "" : encodePageToken(nextAfter, hash);
  return create(BootstrapServiceListIdentitiesResponseSchema, { identities: found.map(identityMessage), nextPageToken });
}

/** Runs an act, and records it in the audit log, also if it is refused. If its answer is lost, it can have had its effect. */
export async function recorded<T>(
  { onOperation }: Pick<BootstrapParts, "onOperation">,
  { caller, requestId }: CallContext,
  { action, detail, nodeId = "" }: Pick<IdentityOperation, "action" | "detail"> & { readonly nodeId?: string },
  run: () => Promise<T>,
): Promise<T> {
  const record = (refusal: string, outcome: string) =>
    onOperation(caller, { action, requestId, nodeId, refusal, detail: detail + outcome });
  const result = await run().catch((error: unknown) => {
    if (isUnavailable(error)) record("", "; the outcome is unknown");
    else if (error instanceof WaymarkError) record(problemOf(error), `; ${error.message}`);
    throw error;
  });
  record("", "");
  return result;
}

/** Why an act was refused, as one word. */
export function problemOf({ reason, details }: WaymarkError): string {
  return details.metadata?.["problem"] ?? reason;
}
