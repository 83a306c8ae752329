#!/usr/bin/env python3
"""Writes Grafana's dashboards, and the alerts as the Prometheus operator takes them.

    deploy/observability/generate.py           writes grafana/*.json and prometheusrule.yaml
    deploy/observability/generate.py --check   fails when they are not what it would write

A dashboard is a list of rows, a row a list of panels: (title, unit, [(expression, legend), ...]). What
every service has in common is said once, in COMMON. Standard library only.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
SERVICES = ["signal", "relay", "peer-linker", "channel-hub", "peerbook", "mesh"]
JOBS = "|".join(SERVICES)
# Services that commit each write by itself and have no figures of shared commits.
SINGLE_COMMITS = ["peerbook"]


def rate(metric, by="", match="", window="$__rate_interval"):
    """The rate of a counter of the dashboard's service, summed."""
    labels = ",".join(part for part in ('job="$job"', 'instance=~"$instance"', match) if part)
    over = f" by ({by})" if by else ""
    return f"sum{over} (rate({metric}{{{labels}}}[{window}]))"


def now(metric, by="", match=""):
    labels = ",".join(part for part in ('job="$job"', 'instance=~"$instance"', match) if part)
    over = f" by ({by})" if by else ""
    return f"sum{over} ({metric}{{{labels}}})"


def quantile(q, metric, by=""):
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(metric + '_bucket', by=groups)})"


def counted(title, metric, by="", unit="ops"):
    return (title, unit, [(rate(metric, by=by), f"{{{{{by}}}}}" if by else title)])


def gauge(title, metric, unit="short", by="instance"):
    return (title, unit, [(now(metric, by=by), f"{{{{{by}}}}}")])


WEBSOCKETS = (
    "WebSockets",
    [
        gauge("Open", "edge_ws_open"),
        ("Messages", "ops", [(rate("edge_ws_messages_in_total"), "in"), (rate("edge_ws_frames_out_total"), "out, one reader")]),
        ("Bytes", "Bps", [(rate("edge_ws_bytes_in_total"), "in"), (rate("edge_ws_bytes_out_total"), "out")]),
        (
            "Closed by us",
            "ops",
            [
                (rate("edge_ws_outbox_overflows_total"), "outbox full"),
                (rate("edge_ws_slow_followers_total"), "fell off the feed"),
                (rate("edge_ws_write_timeouts_total"), "does not read"),
                (rate("edge_ws_idle_timeouts_total"), "silent"),
                (rate("edge_ws_violations_total"), "broke the protocol"),
            ],
        ),
    ],
)

PADS = (
    "Packets",
    [
        ("Open", "short", [(now("packets_open", by="wire"), "{{wire}}")]),
        counted("Received", "packets_received_total", by="wire"),
        ("Bytes", "Bps", [(rate("packets_bytes_in_total"), "in"), (rate("packets_bytes_out_total"), "out")]),
        counted("Activations", "packets_activations_total", by="outcome"),
        counted("Closed by us", "packets_closed_total", by="reason"),
        ("Other replicas", "short", [(now("packets_siblings"), "connections"), (rate("packets_siblings_refused_total"), "refused a second")]),
        counted("Senders paused", "packets_paused_total"),
        counted("Runs of the verifier", "packets_verifier_runs_total", by="outcome"),
        ("Not understood", "ops", [(rate("packets_malformed_total"), "malformed"), (rate("packets_unreadable_total"), "unreadable")]),
    ],
)

COMMON = [
    (
        "Connections",
        [
            gauge("Open", "edge_connections_open"),
            counted("Accepted", "edge_connections_total"),
            counted("Refused", "edge_connections_refused_total", by="reason"),
            counted("TLS handshakes", "edge_tls_handshakes_total", by="outcome"),
            counted("HTTP requests", "edge_http_requests_total"),
            (
                "Trouble",
                "ops",
                [
                    (rate("edge_http_head_timeouts_total"), "head timeouts"),
                    (rate("edge_accept_errors_total"), "accept errors"),
                    (rate("edge_certificate_reloads_total", match='outcome="failed"'), "certificates not reloaded"),
                ],
            ),
        ],
    ),
    (
        "Database",
        [
            ("Connections", "short", [(now("pg_pool_connections"), "all"), (now("pg_pool_idle_connections"), "idle")]),
            ("Commit, 99 of 100 within", "s", [(quantile(0.99, "pg_group_seconds", by="group"), "{{group}}")]),
            ("Commit, half within", "s", [(quantile(0.5, "pg_group_seconds", by="group"), "{{group}}")]),
            ("Items per commit, half up to", "short", [(quantile(0.5, "pg_group_items", by="group"), "{{group}}")]),
            ("Batches", "ops", [(rate("pg_group_retries_total"), "tried again"), (rate("pg_group_splits_total"), "split")]),
        ],
    ),
    (
        "Process",
        [
            ("CPU", "percentunit", [(rate("process_cpu_seconds_total", by="instance"), "{{instance}}")]),
            gauge("Resident memory", "process_resident_memory_bytes", unit="bytes"),
            ("Files", "short", [(now("process_open_fds", by="instance"), "{{instance}}"), (now("process_max_fds"), "most")]),
            ("Tasks and threads", "short", [(now("service_tasks"), "tasks"), (now("process_threads"), "threads")]),
            counted("Panics", "service_task_panics_total"),
            ("Up for", "s", [('time() - process_start_time_seconds{job="$job",instance=~"$instance"}', "{{instance}}")]),
            ("Version", "short", [(now("service_build_info", by="version"), "{{version}}")]),
        ],
    ),
]

# For a service whose replicas talk to each other by the bus.
BUS = (
    "Other replicas",
    [
        ("Messages", "ops", [(rate("bus_sent_total"), "sent"), (rate("bus_received_total"), "received"), (rate("bus_spilled_total"), "spilled to a table")]),
        counted("Not sent", "bus_lost_total", by="reason"),
        counted("Looked at the tables again", "bus_resyncs_total", by="cause"),
        ("Heard", "short", [(now("bus_connected", by="instance"), "{{instance}}")]),
        ("Waiting to be sent", "bytes", [(now("bus_waiting_bytes", by="instance"), "{{instance}}")]),
        ("Sending, 99 of 100 within", "s", [(quantile(0.99, "bus_send_seconds"), "99 of 100")]),
    ],
)

IDENTITY = (
    "Identity",
    [
        counted("Claims", "identity_claims_total", by="outcome"),
        ("Cache", "ops", [(rate("identity_cache_hits_total"), "hits"), (rate("identity_cache_misses_total"), "misses")]),
    ],
)

OWN = {
    "signal": [
        (
            "Peers",
            [
                gauge("Online", "signal_peers_online"),
                counted("Registers acknowledged", "signal_register_acks_total"),
                counted("Signals", "signal_signals_total", by="outcome"),
                counted("Error frames", "signal_refused_total", by="code"),
                counted("Resumes", "signal_resumes_total", by="outcome"),
                ("Back after a lost connection, half within", "s", [(quantile(0.5, "signal_recovery_seconds"), "half"), (quantile(0.99, "signal_recovery_seconds"), "99 of 100")]),
                ("Presence", "ops", [(rate("signal_presence_events_total"), "events"), (rate("signal_snapshots_sent_total"), "snapshots sent"), (rate("signal_snapshots_built_total"), "snapshots built")]),
                ("Sessions", "ops", [(rate("signal_sessions_replaced_total"), "replaced"), (rate("signal_probes_total"), "probes"), (rate("signal_registration_deadlines_total"), "never registered"), (rate("signal_resumed_signals_total"), "signals delivered late")]),
                ("Leases", "short", [(now("signal_leavers_waiting"), "ends not told"), (rate("signal_leases_lost_total"), "lost")]),
            ],
        ),
        BUS,
        IDENTITY,
        WEBSOCKETS,
    ],
    "relay": [
        (
            "Envelopes",
            [
                ("Stored and taken", "ops", [(rate("relay_envelopes_stored_total"), "stored"), (rate("relay_envelopes_fetched_total"), "fetched"), (rate("relay_envelopes_removed_total"), "removed"), (rate("relay_envelopes_duplicate_total"), "there already")]),
                ("Groups", "ops", [(rate("relay_group_messages_total"), "messages"), (rate("relay_group_deliveries_total"), "mailboxes"), (rate("relay_members_updates_total"), "members updates")]),
                ("Requests", "ops", [(rate("relay_fetches_total"), "pages"), (rate("relay_acks_total"), "acks"), (rate("relay_mailbox_counts_total"), "mailboxes counted")]),
                ("Waiting readers", "short", [(now("relay_long_polls"), "long polls"), (now("relay_streams"), "streams")]),
            ],
        ),
        (
            "Blobs",
            [
                ("Blobs", "ops", [(rate("relay_blobs_stored_total"), "stored"), (rate("relay_blob_uploads_begun_total"), "begun"), (rate("relay_blobs_duplicate_total"), "there already"), (rate("relay_blob_misses_total"), "not found")]),
                ("Bytes", "Bps", [(rate("relay_blob_bytes_in_total"), "in"), (rate("relay_blob_bytes_out_total"), "out")]),
                ("Disk", "bytes", [('max(relay_blob_disk_bytes{job="$job"})', "all blobs")]),
                ("Bodies", "bytes", [(now("relay_body_memory_bytes", by="instance"), "{{instance}}")]),
                counted("Bodies refused", "relay_body_memory_refused_total"),
            ],
        ),
        IDENTITY,
    ],
    "peer-linker": [
        (
            "Pads",
            [
                ("Now", "short", [(now("peer_linker_pads"), "pads"), (now("peer_linker_links"), "links"), (now("peer_linker_link_requests_waiting"), "requests waiting"), (now("peer_linker_http_pads"), "HTTP pads")]),
                ("Passed", "Bps", [(rate("peer_linker_passed_bytes_total"), "between pads"), (rate("peer_linker_http_bytes_total"), "through HTTP pads")]),
                counted("Packets passed", "peer_linker_passed_packets_total"),
                counted("Link requests", "peer_linker_link_requests_total", by="outcome"),
                counted("Limits", "peer_linker_limited_total", by="limit"),
                counted("HTTP transfers", "peer_linker_http_transfers_total", by="outcome"),
                ("Pads", "ops", [(rate("peer_linker_registered_total"), "registered"), (rate("peer_linker_pads_lost_total"), "lost to another replica"), (rate("peer_linker_links_elsewhere_total"), "partner elsewhere"), (rate("peer_linker_bandwidth_pauses_total"), "paused by bandwidth")]),
                ("Leases", "short", [(now("peer_linker_releases_waiting"), "ends not told"), (rate("peer_linker_leases_lost_total"), "lost")]),
            ],
        ),
        PADS,
    ],
    "channel-hub": [
        (
            "Channels",
            [
                ("Now", "short", [(now("channel_hub_channels"), "channels"), (now("channel_hub_sessions"), "clients"), (now("channel_hub_requests_waiting"), "requests waiting")]),
                ("Pad requests", "ops", [(rate("channel_hub_requests_total"), "sent to owners"), (rate("channel_hub_answers_total"), "answered"), (rate("channel_hub_unanswered_total"), "unanswered"), (rate("channel_hub_expired_total"), "too late")]),
                counted("Refused", "channel_hub_refused_total", by="reason"),
                ("Channels", "ops", [(rate("channel_hub_registered_total"), "registered"), (rate("channel_hub_channels_lost_total"), "lost to another replica")]),
                ("Leases", "short", [(now("channel_hub_releases_waiting"), "ends not told"), (rate("channel_hub_leases_lost_total"), "lost")]),
            ],
        ),
        PADS,
    ],
    "peerbook": [
        (
            "Peers",
            [
                gauge("Connections", "peerbook_connections"),
                counted("Offers, answers, candidates", "peerbook_envelopes_total", by="outcome"),
                counted("Proofs", "peerbook_proofs_total", by="outcome"),
                ("Books", "ops", [(rate("peerbook_changes_total"), "changed here"), (rate("peerbook_refreshes_total"), "changed elsewhere")]),
                ("Requests", "short", [(now("peerbook_waiting_requests"), "unanswered"), (now("peerbook_waiting_fingerprints"), "fingerprints waiting")]),
                ("Refused", "ops", [(rate("peerbook_full_total"), "a user's limit"), (rate("peerbook_request_limits_total"), "requests too fast"), (rate("peerbook_limited_messages_total"), "messages too fast")]),
                counted("New requests", "peerbook_requests_total"),
                ("Mails waiting", "short", [('max(peerbook_outbox_mails{job="$job"})', "mails")]),
            ],
        ),
        WEBSOCKETS,
    ],
    "mesh": [
        (
            "Rooms",
            [
                gauge("Event streams", "mesh_streams"),
                ("Posts and deliveries", "ops", [(rate("mesh_posts_total"), "posts"), (rate("mesh_deliveries_total"), "deliveries")]),
                gauge("Price of a post, bits", "mesh_height"),
                ("DHT", "ops", [(rate("mesh_dht_gets_total"), "looked up"), (rate("mesh_dht_puts_total"), "written")]),
                counted("TURN credentials", "mesh_credentials_total"),
                counted("Refused", "mesh_refused_total", by="code"),
            ],
        ),
        (
            "Other nodes",
            [
                ("Nodes", "short", [(now("mesh_nodes"), "known"), (now("mesh_links"), "linked")]),
                ("Posts over links", "ops", [(rate("mesh_link_posts_sent_total"), "sent"), (rate("mesh_link_posts_received_total"), "received"), (rate("mesh_feed_posts_total"), "taken by replicas")]),
                ("Late posts", "bytes", [(now("mesh_backlog_bytes", by="instance"), "{{instance}}")]),
                counted("Banned", "mesh_banned_total"),
            ],
        ),
    ],
}

OVERVIEW = [
    (
        "All services",
        [
            ("Replicas that answer", "short", [(f'sum by (job) (up{{job=~"{JOBS}|haproxy"}})', "{{job}}")]),
            ("Healthy behind HAProxy", "short", [('min by (proxy) (haproxy_backend_active_servers{proxy=~"signal|relay|pads_raw|hubs_raw|peerbook|mesh"})', "{{proxy}}")]),
            ("Errors, share of answers", "percentunit", [("proxy:haproxy_backend_errors:ratio5m", "{{proxy}}")]),
            ("Connections", "short", [("job:edge_connections_open:sum", "{{job}}")]),
            ("HTTP requests", "ops", [("job:edge_http_requests:rate5m", "{{job}}")]),
            ("Commit, 99 of 100 within", "s", [("job:pg_group_seconds:p99_5m", "{{job}}")]),
            ("CPU", "percentunit", [("job:process_cpu_seconds:rate5m", "{{job}}")]),
            ("Resident memory", "bytes", [(f'sum by (job) (process_resident_memory_bytes{{job=~"{JOBS}"}})', "{{job}}")]),
        ],
    ),
    (
        "What people do",
        [
            ("Peers online", "short", [("sum (signal_peers_online)", "signal"), ("sum (peerbook_connections)", "peerbook"), ("sum (peer_linker_pads)", "pads"), ("sum (mesh_streams)", "mesh streams")]),
            ("Signals", "ops", [("sum (rate(signal_signals_total[$__rate_interval]))", "signals"), ("sum (rate(peerbook_envelopes_total[$__rate_interval]))", "peerbook")]),
            ("Messages kept", "ops", [("sum (rate(relay_envelopes_stored_total[$__rate_interval]))", "stored"), ("sum (rate(relay_envelopes_removed_total[$__rate_interval]))", "acknowledged")]),
            ("Bytes between pads", "Bps", [("sum (rate(peer_linker_passed_bytes_total[$__rate_interval]))", "peer-linker")]),
        ],
    ),
    (
        "HAProxy",
        [
            ("Connections", "short", [("sum (haproxy_process_current_connections)", "now"), ("sum (haproxy_process_max_connections)", "most")]),
            ("Sessions by port", "ops", [("sum by (proxy) (rate(haproxy_frontend_sessions_total[$__rate_interval]))", "{{proxy}}")]),
            ("Answers", "ops", [("sum by (code) (rate(haproxy_backend_http_responses_total[$__rate_interval]))", "{{code}}")]),
            ("TLS handshakes", "ops", [("sum (rate(haproxy_process_ssl_connections_total[$__rate_interval]))", "all"), ("sum (rate(haproxy_process_ssl_cache_lookups_total[$__rate_interval]))", "resumption asked for")]),
            ("Turned away", "ops", [("sum by (proxy) (rate(haproxy_frontend_denied_connections_total[$__rate_interval]))", "{{proxy}}, connections"), ("sum by (proxy) (rate(haproxy_frontend_requests_denied_total[$__rate_interval]))", "{{proxy}}, requests")]),
            ("Answer time of HTTP", "s", [("max by (proxy) (haproxy_backend_response_time_average_seconds)", "{{proxy}}")]),
        ],
    ),
]


def panel(number, place, title, unit, targets):
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend} for index, (expression, legend) in enumerate(targets)],
    }


def dashboard(name, title, rows, variables):
    panels, y = [], 0
    for row, members in rows:
        panels.append({"id": len(panels) + 1, "type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for index, (heading, unit, targets) in enumerate(members):
            place = {"x": index % 3 * 8, "y": y + index // 3 * 7, "w": 8, "h": 7}
            panels.append(panel(len(panels) + 1, place, heading, unit, targets))
        y += (len(members) + 2) // 3 * 7
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    return {
        "uid": f"switchyard-{name}",
        "title": title,
        "tags": ["switchyard"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "links": [{"type": "dashboards", "title": "Switchyard", "tags": ["switchyard"], "asDropdown": True}],
        "templating": {"list": [source, *variables]},
        "panels": panels,
    }


def service(name):
    job = {"name": "job", "type": "constant", "query": name, "hide": 2, "current": {"text": name, "value": name}}
    instance = {
        "name": "instance",
        "label": "Replica",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": f'label_values(service_build_info{{job="{name}"}}, instance)', "refId": "instance"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
    rows = OWN[name] + COMMON
    if name in SINGLE_COMMITS:
        rows = [(row, [one for one in members if "pg_group_" not in str(one)]) for row, members in rows]
    return dashboard(name, f"Switchyard: {name}", rows, [job, instance])


def operator_rules():
    rules = (HERE / "prometheus/rules.yml").read_text(encoding="utf-8")
    indented = "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(keepends=True))
    head = "# Written by generate.py from prometheus/rules.yml.\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: switchyard\nspec:\n"
    return head + indented


def files():
    boards = {"overview": dashboard("overview", "Switchyard", OVERVIEW, [])}
    boards |= {name: service(name) for name in SERVICES}
    written = {HERE / f"grafana/{name}.json": json.dumps(board, indent=1) + "\n" for name, board in boards.items()}
    written[HERE / "prometheusrule.yaml"] = operator_rules()
    return written


def main():
    stale = []
    for path, text in files().items():
        if sys.argv[1:] == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(str(path.relative_to(HERE)))
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print("run deploy/observability/generate.py: not up to date:", ", ".join(stale))
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
