/** Implements waymark.control.v1.CredentialService: the tokens of callers that administrators make while nodes run. */
import { create } from "@bufbuild/protobuf";
import {
  CredentialService,
  type CredentialServiceCreateRequest,
  CredentialServiceCreateResponseSchema,
  type CredentialServiceListRequest,
  CredentialServiceListResponseSchema,
  type CredentialServiceRevokeRequest,
  CredentialServiceRevokeResponseSchema,
  type ManagedCredential,
  ManagedCredentialSchema,
} from "../../../gen/waymark/control/v1/credential_pb.js";
import type { CallerTokens } from "../../control/identity/caller-tokens.io.ts";
import type { ListedCredential } from "../../control/identity/trust.ts";
import { DAY_MS } from "../../lib/duration.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { isRole } from "../../policy/identity/caller.ts";
import { durationMs, timestampOf } from "../contract.ts";
import { filterHash, paged } from "../list-page.ts";
import type { CallContext, HandlersOf, ServiceDefinition } from "../service.ts";
import { type BootstrapParts, recorded, wrongNode } from "./bootstrap.ts";

export interface CredentialParts extends Pick<BootstrapParts, "copy" | "onOperation"> {
  /** Whether this node accepts tokens that administrators make (`tenants.managed`). */
  readonly isManaged: boolean;
  /** Undefined if this node has no access to the tokens. */
  readonly tokens: CallerTokens | undefined;
}

const DEFAULT_TTL_MS = 90 * DAY_MS;

export function credentialService(parts: CredentialParts): ServiceDefinition {
  return {
    desc: CredentialService,
    handlers: {
      create: { kind: "unary", handle: (request: CredentialServiceCreateRequest, context) => createCredential(parts, request, context) },
      list: { kind: "unary", handle: (request: CredentialServiceListRequest, context) => list(parts, request, context) },
      revoke: { kind: "unary", handle: (request: CredentialServiceRevokeRequest, context) => revoke(parts, request, context) },
    } satisfies HandlersOf<typeof CredentialService>,
  };
}

function tokensOf({ tokens, copy, isManaged }: CredentialParts): CallerTokens {
  if (tokens !== undefined) return tokens;
  if (!isManaged)
    throw new WaymarkError("wrong_node", "this node does not use such tokens; set tenants.managed on the nodes of the cluster");
  throw wrongNode(copy, "this node does not manage the tokens of callers", "ask a node with the control store");
}

async function createCredential(parts: CredentialParts, request: CredentialServiceCreateRequest, context: CallContext) {
  const tokens = tokensOf(parts);
  const { principal, tenant, roles, ttl } = request;
  roles.forEach((role, i) => {
    if (!isRole(role))
      throw invalid(
        `roles[${i}]`,
        `${JSON.stringify(role)} must be mesh.read, mesh.operate, mesh.admin, mesh.resolve or owner:<namespace>`,
      );
  });
  const terms = {
    principal,
    tenant,
    roles,
    createdBy: context.caller.principal,
    ttlMs: ttl === undefined ? DEFAULT_TTL_MS : durationMs(ttl),
  };
  const detail = `principal=${principal} tenant=${tenant} roles=${roles.join(",")} ttl_s=${terms.ttlMs / 1000}`;
  const act = () => tokens.create(terms, context.time.wallMs);
  const made = await recorded(parts, context, { action: "identity.create_credential", detail }, act);
  return create(CredentialServiceCreateResponseSchema, { token: made.token, info: message(made) });
}

async function list(parts: CredentialParts, { limit, pageToken }: CredentialServiceListRequest, { time }: CallContext) {
  const found = await tokensOf(parts).list(time.wallMs);
  const hash = filterHash("credentials");
  const { page, nextPageToken } = paged(found, ({ accessor }) => accessor, { limit, pageToken, hash });
  return create(CredentialServiceListResponseSchema, { credentials: page.map(message), nextPageToken });
}

async function revoke(parts: CredentialParts, { accessor, reason }: CredentialServiceRevokeRequest, context: CallContext) {
  const tokens = tokensOf(parts);
  const operation = { action: "identity.revoke_credential", detail: `accessor=${accessor} ${reason}` } as const;
  await recorded(parts, context, operation, () => tokens.revoke(accessor));
  return create(CredentialServiceRevokeResponseSchema);
}

function message({ accessor, record }: ListedCredential): ManagedCredential {
  const { principal, tenant, roles, createdBy, createdWallMs, expiresWallMs } = record;
  const times = { createdAt: timestampOf(createdWallMs), expiresAt: timestampOf(expiresWallMs) };
  return create(ManagedCredentialSchema, { accessor, principal, tenant, roles: [...roles], createdBy, ...times });
}
