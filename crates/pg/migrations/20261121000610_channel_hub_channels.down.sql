DROP TABLE channel_hub.channel, channel_hub.node;
