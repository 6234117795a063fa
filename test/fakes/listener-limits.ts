/** The limits of the listeners as a node has them without any setting. */
import { SERVER_FIXED, type ServerLimits } from "../../src/grpc/server/server.io.ts";
import { EDGE_FIXED, type EdgeLimits } from "../../src/server/edge/sockets.io.ts";
import { SETTINGS } from "./options.ts";

const { maxRequestBytes } = SETTINGS.limits;
const { maxConnections, keepaliveTimeMs, keepaliveTimeoutMs } = SETTINGS.server;

export const GRPC_LIMITS: ServerLimits & { readonly maxConnections: number } = {
  ...SERVER_FIXED,
  ...SETTINGS.server,
  maxReceiveBytes: maxRequestBytes,
};
export const EDGE_LIMITS: EdgeLimits = {
  ...EDGE_FIXED,
  maxMessageBytes: maxRequestBytes,
  maxConnections,
  keepaliveTimeMs,
  keepaliveTimeoutMs,
};
