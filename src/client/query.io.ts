/** Implements `query`: returns all entries that match a filter, page by page. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Entry } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  DiscoveryService,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type CallOptions, type ClientCalls, checkCallOptions } from "./calls.ts";

/** `limit` is the number of entries per page. */
export type QueryRequest = Omit<MessageInitShape<typeof CatalogQueryRequestSchema>, "pageToken" | "$typeName">;

const PAGE_LIMIT = 1000;

/**
 * Iterates over the entries ordered by key. Each iteration sends new requests, and each page is requested when it is needed. An entry that exists
 * during the whole iteration is returned exactly once. An entry that is added or removed during the iteration may or may not be returned. Throws a
 * `RequestError`.
 */
export class Query implements AsyncIterable<Entry> {
  readonly #client: ClientCalls;
  readonly #request: QueryRequest;
  readonly #options: CallOptions;

  /** The options apply to each page request. Throws a TypeError or RangeError that names the invalid option. */
  constructor(client: ClientCalls, request: QueryRequest, options: CallOptions = {}) {
    checkCallOptions("query", options);
    this.#client = client;
    this.#request = request;
    this.#options = options;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Entry> {
    for await (const { items } of this.pages()) yield* items;
  }

  /** Iterates over the pages, including the server's information about each: age, source and node. */
  async *pages(): AsyncIterable<CatalogQueryResponse> {
    let pageToken = "";
    do {
      const request = { limit: PAGE_LIMIT, ...this.#request, pageToken };
      const page = await this.#client.call(DiscoveryService.method.catalogQuery, request, this.#options);
      yield page;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }
}
