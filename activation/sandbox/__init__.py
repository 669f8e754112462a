"""A local stand-in for the email platform: what the connector and a person need of the Mailchimp Marketing API 3.0.

It listens on loopback only, checks keys and payloads, answers in the platform's shapes with the platform's quirks, and
keeps its state in the home. Nothing that production needs belongs here.
"""
