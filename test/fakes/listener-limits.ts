/** The limits of the listeners as a node has them without any setting. */
import { SERVER_FIXED } from "../../src/grpc/server/server.io.ts";
import { EDGE_FIXED, type EdgeLimits } from "../../src/server/edge/sockets.io.ts";
import type { GrpcLimits } from "../../src/server/grpc-listener.io.ts";
import { SETTINGS } from "./options.ts";

const { maxRequestBytes } = SETTINGS.limits;
const { maxConnections, keepaliveTimeMs, keepaliveTimeoutMs } = SETTINGS.server;

export const GRPC_LIMITS: GrpcLimits = {
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
