/** Implements waymark.control.v1.JoinService, which issuers serve on their fabric listener. */
import { create } from "@bufbuild/protobuf";
import type { IdentityRole } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import {
  JoinService,
  type JoinServiceFollowRequest,
  type JoinServiceJoinRequest,
  JoinServiceJoinResponseSchema,
  type JoinServiceRenewRequest,
  JoinServiceRenewResponseSchema,
  TrustRecordSchema,
} from "../../../gen/waymark/control/v1/join_pb.js";
import type { Admission, Authority } from "../../control/identity/authority.io.ts";
import { ISSUERS, REVOCATIONS, ROOTS } from "../../control/identity/records.ts";
import { identityOfSpiffeId } from "../../lib/certificates/spiffe.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { isUnavailable } from "../recorded-operation.ts";
import type { CallContext, HandlersOf, ServiceDefinition, StreamSource } from "../service.ts";
import { type BootstrapParts, type IdentityOperation, knownRoots, problemOf } from "./bootstrap.ts";
import { roleOf } from "./identity-message.ts";
import { type TrustSource, TrustStream } from "./trust-stream.ts";

export interface JoinParts extends Pick<BootstrapParts, "onOperation"> {
  readonly authority: Authority;
  readonly trust: TrustSource;
  /** Calls `wake` several times a second until the returned function is called. */
  readonly tick: (wake: () => void) => () => void;
  /** Counts a request. `problem` is empty if it was granted. */
  readonly onRequest: (kind: "join" | "renew", problem: string) => void;
}

export function joinService(parts: JoinParts): ServiceDefinition {
  const { authority } = parts;
  return {
    desc: JoinService,
    handlers: {
      join: {
        kind: "unary",
        handle: async (request: JoinServiceJoinRequest, context: CallContext) => {
          const join = () => authority.join(request, context.time.wallMs);
          const certificates = await answered(parts, context, { kind: "join", name: request.name }, join);
          const records = [...parts.trust.copy.records].filter(([key]) => key.startsWith(ROOTS) || key.startsWith(ISSUERS));
          return create(JoinServiceJoinResponseSchema, {
            certificates,
            records: records.map(([key, value]) => create(TrustRecordSchema, { key, value })),
          });
        },
      },
      renew: {
        kind: "unary",
        handle: async (request: JoinServiceRenewRequest, context: CallContext) => {
          const asked = { ...request, role: knownRole(request.role) };
          const renew = () => authority.renew(asked, context.time.wallMs);
          const certificates = await answered(parts, context, { kind: "renew", name: request.name }, renew);
          return create(JoinServiceRenewResponseSchema, { certificates });
        },
      },
      follow: { kind: "server_streaming", open: (_request: JoinServiceFollowRequest, context) => follow(parts, context) },
    } satisfies HandlersOf<typeof JoinService>,
  };
}

/**
 * A node of another cluster needs only the revocations. A caller with a certificate of a revoked issuer, who is not authenticated, gets them once, so
 * that it learns that it must renew.
 */
function follow({ authority, trust, tick, onOperation }: JoinParts, { caller, requestId }: CallContext): StreamSource {
  const identity = identityOfSpiffeId(caller.principal);
  if (identity === undefined || identity.role === "client") {
    const error = new WaymarkError("unauthenticated", "Follow needs the certificate of a node or resolver");
    onOperation(caller, { action: "identity.follow", requestId, nodeId: "", refusal: error.reason, detail: "" });
    throw error;
  }
  const isFinal = !caller.isAuthenticated;
  const isOwn = identity.clusterId === authority.issuer.facts.clusterId && !isFinal;
  return new TrustStream({ source: trust, tick, isFinal, allows: (key) => isOwn || key.startsWith(REVOCATIONS) });
}

function knownRole(role: IdentityRole) {
  const word = roleOf(role);
  if (word === undefined) throw invalid("role", "must be node, resolver or client");
  return word;
}

/** Runs a request, and records it in the audit log, whether it is granted or refused. Resolves with the certificates. */
async function answered(
  { trust, onOperation, onRequest }: JoinParts,
  { caller, requestId }: CallContext,
  { kind, name }: { readonly kind: "join" | "renew"; readonly name: string },
  run: () => Promise<Admission>,
): Promise<string> {
  knownRoots(trust.copy);
  const record = (of: Pick<IdentityOperation, "detail" | "nodeId" | "refusal">) =>
    onOperation(caller, { action: `identity.${kind}`, requestId, ...of });
  try {
    const made = await run();
    const { keyDigest, tokenId, attestedBy } = made.record;
    onRequest(kind, "");
    const detail = `role=${made.role} name=${made.name} key=${keyDigest}${tokenId === "" ? "" : ` token=${tokenId}`}${attestedBy === "" ? "" : ` attested=${attestedBy}`}`;
    record({ nodeId: made.role === "node" ? made.name : "", refusal: "", detail });
    return made.chain;
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    const problem = problemOf(error);
    onRequest(kind, problem);
    record({ nodeId: "", refusal: isUnavailable(error) ? "" : problem, detail: `name=${name} ${error.message}` });
    throw error;
  }
}
