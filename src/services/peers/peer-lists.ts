/** The answers of PeerService.List, as bytes for gRPC and as JSON for the route. */
import { create, type JsonObject, toBinary, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type PeerServiceListRequest,
  PeerServiceListRequestSchema,
  type PeerServiceListResponse,
  PeerServiceListResponseSchema,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import type { Time } from "../../lib/machine.ts";
import { filterHash, paged, requestReader } from "../list-page.ts";
import type { RouteAnswer, RouteParameters } from "../service.ts";
import type { MemberDirectory, MemberRow, ServingNode } from "./members.ts";
import { peerFilter, placeIn } from "./peer-filter.ts";
import { messageWith, type PeerMessages } from "./peer-messages.ts";

/** Number of the field `PeerServiceListResponse.peers`. */
const PEERS = PeerServiceListResponseSchema.field.peers.number;

const requestIn = requestReader(PeerServiceListRequestSchema);

interface ListedPeers {
  readonly page: readonly MemberRow[];
  /** The answer without its members. */
  readonly rest: PeerServiceListResponse;
}

interface PeerListParts {
  readonly identity: ServingNode;
  readonly source: MemberDirectory;
}

export class PeerLists {
  readonly #parts: PeerListParts;
  readonly #messages: PeerMessages;

  constructor(parts: PeerListParts, messages: PeerMessages) {
    this.#parts = parts;
    this.#messages = messages;
  }

  /** Returns the encoded answer. Throws `invalid_argument`. */
  bytes(request: PeerServiceListRequest, time: Time): Uint8Array {
    const { page, rest } = this.#list(request, time);
    const peers = page.map((row) => this.#messages.bytes(row));
    return messageWith(PEERS, peers, toBinary(PeerServiceListResponseSchema, rest));
  }

  /**
   * Returns the answer of the route. Its mark contains the states of the members, but not the values that each probe measures, so that a reader who
   * compares ETags sees only changes. Throws `invalid_argument`.
   */
  answer(asked: RouteParameters, time: Time): RouteAnswer {
    const { page, rest } = this.#list(requestIn(asked), time);
    const marks = page.map((row) => `${row.nodeId} ${this.#messages.versionOf(row)}`);
    return {
      kind: "marked",
      mark: [rest.servedBy, rest.nextPageToken, ...marks].join("\n"),
      page: () => {
        const peers = page.map((row) => this.#messages.json(row));
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
        const json = toJson(PeerServiceListResponseSchema, rest, { alwaysEmitImplicit: true }) as JsonObject;
        return { ...json, peers };
      },
    };
  }

  #list(request: PeerServiceListRequest, time: Time): ListedPeers {
    const { source, identity } = this.#parts;
    const filter = peerFilter(request, this.#messages);
    const rows = source.members(time).filter((row) => filter.matches(row));
    const { limit, pageToken, sort } = request;
    const { page, nextPageToken } = paged(rows, placeIn(sort), { limit, pageToken, hash: filterHash(filter.hash, sort) });
    const rest = create(PeerServiceListResponseSchema, {
      nextPageToken,
      servedBy: identity.nodeId,
      generatedAt: timestampFromMs(time.wallMs),
    });
    return { page, rest };
  }
}
