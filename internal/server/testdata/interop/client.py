#!/usr/bin/python3
"""A client on paho for Python, which tests tell what to do.

    client.py --url mqtts://localhost:8883 --version 5 --ca owner-ca.pem

Commands are JSON, one a line, on standard input; what happens is JSON, one a line, on standard output. One process
holds any number of connections; the key "conn" names one. Payloads and correlation data are in base64.

    {"do": "connect", "conn": "a", "id": "sensor", "clean": true, "expiry": 0, "will": MESSAGE, "aliases": 0}
    {"do": "subscribe", "conn": "a", "filter": "x/#", "qos": 1, "identifier": 7}
    {"do": "publish", "conn": "a", "message": MESSAGE}
    {"do": "disconnect", "conn": "a"}
    {"do": "drop", "conn": "a"}             as if the network had failed

A MESSAGE has topic, payload, qos, retain, and for MQTT 5 content_type, response_topic, correlation, user, expiry and
alias. The events are connected, subscribed, published, message, ended and failed.
"""
import argparse
import base64
import json
import os
import socket
import sys
import threading
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}

# Names of MQTT 5 properties, here and in paho.
TEXTS = {"content_type": "ContentType", "response_topic": "ResponseTopic", "expiry": "MessageExpiryInterval", "alias": "TopicAlias"}

NEVER = 24 * 3600  # seconds until paho connects again by itself

printing = threading.Lock()


def say(conn, event, **more):
    with printing:
        print(json.dumps({"conn": conn, "event": event, **more}), flush=True)


def new_client(version, transport, name, clean):
    arguments = {"client_id": name, "protocol": version, "transport": transport}
    if version != mqtt.MQTTv5:
        arguments["clean_session"] = clean
    if hasattr(mqtt, "CallbackAPIVersion"):  # paho 2 wants to be told that its callbacks are those of paho 1
        arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
    return mqtt.Client(**arguments)


def properties_of(message, kind):
    properties = Properties(kind)
    for ours, theirs in TEXTS.items():
        if message.get(ours):
            setattr(properties, theirs, message[ours])
    if message.get("correlation"):
        properties.CorrelationData = base64.b64decode(message["correlation"])
    if message.get("user"):
        properties.UserProperty = [tuple(pair) for pair in message["user"]]
    return properties


def message_of(m, aliases):
    message = {"topic": m.topic, "payload": base64.b64encode(m.payload).decode(), "qos": m.qos, "retain": bool(m.retain)}
    properties = getattr(m, "properties", None)
    if properties is None:
        return message
    for ours, theirs in TEXTS.items():
        if hasattr(properties, theirs):
            message[ours] = getattr(properties, theirs)
    if hasattr(properties, "CorrelationData"):
        message["correlation"] = base64.b64encode(properties.CorrelationData).decode()
    if hasattr(properties, "UserProperty"):
        message["user"] = [list(pair) for pair in properties.UserProperty]
    if hasattr(properties, "SubscriptionIdentifier"):
        message["identifiers"] = properties.SubscriptionIdentifier
    if "alias" in message:  # paho leaves topic aliases to its user
        message["topic"] = aliases[message["alias"]] = message["topic"] or aliases[message["alias"]]
    return message


class Connection:
    def __init__(self, options, command):
        self.name = command["conn"]
        self.v5 = options.version == "5"
        self.aliases = {}
        url = urlparse(options.url)
        transport = "websockets" if url.scheme in ("ws", "wss") else "tcp"
        self.client = new_client(VERSIONS[options.version], transport, command["id"], command["clean"])
        if transport == "websockets":
            self.client.ws_set_options(path=url.path)
        if options.ca:
            self.client.tls_set(ca_certs=options.ca)
        self.set_will(command.get("will"))
        self.set_callbacks()
        self.client.connect(url.hostname, url.port, **self.connect_options(command))
        self.client.reconnect_delay_set(NEVER, NEVER)
        self.client.loop_start()

    def connect_options(self, command):
        if not self.v5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = command.get("expiry", 0)
        properties.TopicAliasMaximum = command.get("aliases", 0)
        return {"clean_start": command["clean"], "properties": properties}

    def set_will(self, will):
        if not will:
            return
        more = {"properties": properties_of(will, PacketTypes.WILLMESSAGE)} if self.v5 else {}
        self.client.will_set(will["topic"], base64.b64decode(will["payload"]), will["qos"], will["retain"], **more)

    def set_callbacks(self):
        def on_connect(_client, _data, flags, reason, *_properties):
            say(self.name, "connected", present=bool(flags["session present"]), reason=getattr(reason, "value", reason))

        def on_subscribe(_client, _data, _mid, granted, *_properties):
            say(self.name, "subscribed", reason=getattr(granted[0], "value", granted[0]))

        self.client.on_connect = on_connect
        self.client.on_subscribe = on_subscribe
        self.client.on_publish = lambda *_: say(self.name, "published")  # with no reason, in paho 1
        self.client.on_disconnect = lambda *_: say(self.name, "ended")
        self.client.on_message = lambda _c, _d, m: say(self.name, "message", message=message_of(m, self.aliases))

    def subscribe(self, command):
        if not self.v5:
            self.client.subscribe(command["filter"], command["qos"])
            return
        properties = Properties(PacketTypes.SUBSCRIBE)
        if command.get("identifier"):
            properties.SubscriptionIdentifier = command["identifier"]
        self.client.subscribe(command["filter"], options=mqtt.SubscribeOptions(qos=command["qos"]), properties=properties)

    def publish(self, command):
        m = command["message"]
        more = {"properties": properties_of(m, PacketTypes.PUBLISH)} if self.v5 else {}
        self.client.publish(m["topic"], base64.b64decode(m["payload"]), m["qos"], m["retain"], **more)

    def disconnect(self, _command):
        self.client.disconnect()

    def drop(self, _command):
        duplicate = socket.socket(fileno=os.dup(self.client.socket().fileno()))
        duplicate.shutdown(socket.SHUT_RDWR)
        duplicate.close()


def main():
    parser = argparse.ArgumentParser(description="a client on paho for Python, which tests tell what to do")
    parser.add_argument("--url", required=True)
    parser.add_argument("--version", choices=VERSIONS, default="5")
    parser.add_argument("--ca")
    options = parser.parse_args()
    connections = {}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "connect":
                connections[command["conn"]] = Connection(options, command)
            else:
                getattr(connections[command["conn"]], command["do"])(command)
        except Exception as error:  # the test shows it, whatever it is
            say(command["conn"], "failed", error=repr(error))


main()
